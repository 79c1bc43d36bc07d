"""The suite that every policy must pass, registered or a user's; part of the package, so that
`apexbench doctor --policy` runs what the project's own tests run. No test framework is needed.
"""
