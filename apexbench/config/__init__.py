"""What `compare` was asked to do, merged from command line, environment, file and preset.

Precedence: command line > APEXBENCH_* > apexbench.toml > workload preset > default, where some
defaults come with the backend. Whether a GPU, host, model, workload, policy or threshold of that
name exists is not decided here.
"""

from apexbench.config.backends import BACKENDS, REAL_TIME, backend_values
from apexbench.config.keys import (
    DEFAULT,
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
    "BACKENDS",
    "CONFIG_VARIABLE",
    "DEFAULT",
    "DEFAULT_POLICIES",
    "DEFAULT_RATES",
    "ENV_PREFIX",
    "FILE_NAME",
    "KEYS",
    "OTHER_VARIABLES",
    "REAL_TIME",
    "SLO_TARGETS",
    "TABLES",
    "CompareConfig",
    "Rate",
    "backend_values",
    "locate",
    "parse_rate",
    "resolve",
]
