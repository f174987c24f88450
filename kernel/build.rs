//! Links the bare-metal kernel with its architecture's linker script.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") != "none" {
        return;
    }
    let script = format!(
        "{}/../hal/src/{}/kernel.ld",
        env::var("CARGO_MANIFEST_DIR").unwrap_or_default(),
        target("ARCH")
    );
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    println!("cargo:rustc-link-arg-bins=--build-id=sha1");
}
