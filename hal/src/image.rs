//! What the linker knows of the kernel's image.

#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "reads the note between two symbols of the linker script")
)]

/// The image's GNU build id: the linker's hash of its contents. Empty on the host.
#[cfg(target_os = "none")]
pub fn build_id() -> &'static [u8] {
    // An ELF note: name size, descriptor size and type as words, "GNU\0", then the id (System V ABI, "Note Section").
    const HEADER: usize = 16;

    unsafe extern "C" {
        static __build_id_start: u8;
        static __build_id_end: u8;
    }
    // SAFETY: the linker script puts both symbols around the read-only .note.gnu.build-id section, mapped for ever.
    let note = unsafe {
        let start = &raw const __build_id_start;
        let end = &raw const __build_id_end;
        core::slice::from_raw_parts(start, end as usize - start as usize)
    };
    note.get(HEADER..).unwrap_or(&[])
}

/// The image's GNU build id: the linker's hash of its contents. Empty on the host.
#[cfg(not(target_os = "none"))]
pub fn build_id() -> &'static [u8] {
    &[]
}
