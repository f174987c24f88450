//! The host: simulated CPUs and memory.
