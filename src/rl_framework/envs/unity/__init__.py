"""Unity games through ML-Agents: players that are launched or awaited, as environments like all others."""
