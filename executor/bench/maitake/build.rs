//! Says that maitake is there.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(maitake)");
    println!("cargo:rustc-cfg=maitake");
}
