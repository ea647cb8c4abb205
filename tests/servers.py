"""Real servers for tests: PostgreSQL, MLflow. Loopback, free ports, time limits, ended by the process that began them."""
