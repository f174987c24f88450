//! The clocks that programs read without a call: the page that the kernel keeps for them, and what is made of it.
//!
//! `main.rs` is the other side: the shared object that the kernel maps into every program (vdso(7)), which reads that page.

#![no_std]

mod page;

pub use page::{Counter, Page, SHIFT, WORDS};
