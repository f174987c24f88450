//! The kernel's image.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a bare-metal kernel: boot it with scripts/run");
    std::process::exit(2);
}
