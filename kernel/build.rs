//! Links the bare-metal kernel with its architecture's linker script, and builds the vDSO that it maps into programs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let vdso = variable("OUT_DIR").join("vdso.so");
    let hal = variable("CARGO_MANIFEST_DIR").join("../hal");
    if target("OS") != "none" {
        // The host's programs are simulated, and call none of it.
        fs::write(&vdso, []).unwrap_or_else(|error| panic!("cannot write {}: {error}", vdso.display()));
        return;
    }
    build_vdso(&hal.join("vdso"), &target("ARCH"), &vdso);
    let script = hal.join("src").join(target("ARCH")).join("kernel.ld");
    let script = script.display();
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    println!("cargo:rustc-link-arg-bins=--build-id=sha1");
}

fn variable(name: &str) -> PathBuf {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}")).into()
}

/// Compiles and links the shared object. By itself, since it is for other code generation than the kernel's: position-independent, and
/// for user mode.
fn build_vdso(source: &Path, arch: &str, to: &Path) {
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    println!("cargo:rerun-if-env-changed=VDSO_RUSTC");
    // The compiler's own targets have `core` for it, whatever the kernel is built for.
    let target = match arch {
        "aarch64" => "aarch64-unknown-none-softfloat",
        _ => "x86_64-unknown-none",
    };
    let script = |name: &str| source.join(name).display().to_string();
    let link = [
        "-shared".to_owned(),
        "-no-pie".to_owned(),
        format!("-T{}", script("vdso.ld")),
        format!("--version-script={}", script(&format!("{arch}.map"))),
        "-soname=linux-vdso.so.1".to_owned(),
        "--hash-style=both".to_owned(),
        "--build-id=sha1".to_owned(),
        "--eh-frame-hdr".to_owned(),
        "--no-undefined".to_owned(),
        "-Bsymbolic".to_owned(),
        "--strip-all".to_owned(),
        "-zmax-page-size=4096".to_owned(),
    ];
    // Another one may be named, where the kernel's has no `core` for that target.
    let compiler = env::var_os("VDSO_RUSTC").map_or_else(|| variable("RUSTC"), PathBuf::from);
    let mut compile = Command::new(compiler);
    compile.args(["--edition", "2024", "--crate-name", "vdso", "--crate-type", "bin"]);
    compile.args([
        "--target",
        target,
        "-Copt-level=3",
        "-Cpanic=abort",
        "-Crelocation-model=pic",
    ]);
    compile.args(["-Cforce-unwind-tables=yes", "-Ccodegen-units=1"]);
    compile.args(link.iter().map(|argument| format!("-Clink-arg={argument}")));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        compile.arg("-C").arg(format!("linker={}", linker.display()));
    }
    compile.arg("-o").arg(to).arg(source.join("src/main.rs"));
    let built = compile.status().is_ok_and(|status| status.success());
    assert!(
        built,
        "cannot build the vDSO: {compile:?}; scripts/setup installs what it needs"
    );
}
