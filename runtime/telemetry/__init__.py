"""Traces, metrics and logs. Exporters and tracers are imported only where ENABLE_OTEL is true."""
