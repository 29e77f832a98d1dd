"""The step of survey.c that is better done in Python."""
import statistics

from perdure_steps import Final, step


@step("survey/statistics", str, dict)
def numbers(context, path):
    values = []
    try:
        with open(path) as file:
            for line in file:
                values.append(float(line))
                if len(values) % 100000 == 0:
                    context.heartbeat({"read": len(values)})  # perdure describe shows it
                    if context.cancelled:
                        return {}
    except (FileNotFoundError, ValueError) as error:
        raise Final("BadFile", str(error))  # trying again would not help
    if not values:
        raise Final("BadFile", path + " has no numbers")
    return {"count": len(values), "mean": statistics.fmean(values), "median": statistics.median(values),
            "deviation": statistics.pstdev(values)}
