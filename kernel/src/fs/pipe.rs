//! Pipes.

/// A pipe.
pub struct Pipe;

/// One end of a pipe.
pub struct PipeEnd;
