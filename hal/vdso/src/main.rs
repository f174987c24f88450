//! The shared object that the kernel maps into every program (vdso(7)), with the kernel's page of clocks before it. It is built by
//! the kernel's build script and has neither data of its own nor relocations.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "reads the machine's counter, and writes where programs say")
)]

#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
#[expect(dead_code, reason = "the kernel's side is in there too")]
mod page;
#[cfg(target_os = "none")]
mod program;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is mapped by the kernel, and is no program");
    std::process::exit(2);
}
