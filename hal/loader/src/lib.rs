//! What the UEFI loader decides, apart from firmware: its configuration, and what a kernel file asks for.
//!
//! The program around it (`main.rs`) exists for UEFI targets only; this part is tested on the host.

#![no_std]

extern crate alloc;

pub mod config;
pub mod kernel_file;
