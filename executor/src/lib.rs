//! The executor.
#![no_std]
