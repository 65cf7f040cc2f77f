"""For processes of the scenario `logs` that write no rows of the request log, so that it is seen what those cost.

In the place of each row there is a statement that changes nothing, since a unit keeps its shape.
"""

import sys

if sys.argv[:1] == ["-m"]:  # not for Redis and other helpers
    from shared.group_commit.units import Statement
    from shared.request_logs import statements

    NOTHING = Statement("UPDATE revisions SET number = number WHERE id = 0")
    statements.insert_attempt = lambda _attempt: NOTHING
    statements.end_attempt = lambda _attempt: NOTHING
