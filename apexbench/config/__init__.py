"""What `compare` was asked to do, merged from command line, environment, file and preset.

Precedence: command line > APEXBENCH_* > apexbench.toml > workload preset > default. Whether a GPU,
host, model, workload, policy or threshold of that name exists is not decided here.
"""

from apexbench.config.keys import (
    DEFAULT_POLICIES,
    DEFAULT_RATES,
    KEYS,
    SLO_TARGETS,
    TABLES,
    CompareConfig,
    Rate,
    parse_rate,
)
from apexbench.config.sources import (
    CONFIG_VARIABLE,
    ENV_PREFIX,
    FILE_NAME,
    OTHER_VARIABLES,
    locate,
    resolve,
)

__all__ = [
    "CONFIG_VARIABLE",
    "DEFAULT_POLICIES",
    "DEFAULT_RATES",
    "ENV_PREFIX",
    "FILE_NAME",
    "KEYS",
    "OTHER_VARIABLES",
    "SLO_TARGETS",
    "TABLES",
    "CompareConfig",
    "Rate",
    "locate",
    "parse_rate",
    "resolve",
]
