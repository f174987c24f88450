//! The kernel's image: the symbols that `hal` calls and the global allocator, over the library.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "defines symbols that other crates call by name")
)]

#[cfg(target_os = "none")]
mod image {
    use hal::{
        boot_info::Machine,
        trap::{InterruptToken, KernelFault},
    };
    use kernel::{boot, irq, mm::heap::KernelHeap, panic};

    #[global_allocator]
    static HEAP: KernelHeap = KernelHeap;

    // SAFETY: the names are hal's upcalls, each defined here only.
    #[unsafe(no_mangle)]
    fn breenix_main(machine: &'static Machine) -> ! {
        boot::main(machine)
    }

    // SAFETY: as above.
    #[unsafe(no_mangle)]
    fn breenix_secondary(cpu: u32) -> ! {
        boot::secondary(cpu)
    }

    // SAFETY: as above.
    #[unsafe(no_mangle)]
    fn breenix_interrupt(token: InterruptToken) {
        irq::dispatch(token);
    }

    // SAFETY: as above.
    #[unsafe(no_mangle)]
    fn breenix_kernel_fault(fault: &KernelFault) -> ! {
        panic::from_fault(fault)
    }

    #[panic_handler]
    fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
        panic::from_rust(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a bare-metal kernel: boot it with scripts/run");
    std::process::exit(2);
}
