//! How the kernel dies: loudly, with a symbolised backtrace of the CPU that failed and what every CPU was doing, and with
//! an exit status that no script can take for success.

use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicU32, Ordering},
};

use hal::{
    arch::{Cpu, PerCpu, controller},
    traits::{CpuOps, InterruptController, PerCpuOps, Shutdown},
    trap::KernelFault,
};

use crate::{build_id::BuildId, command_line, cpu, drivers::screen, klog, symbols, trace};

/// The machine's exit status after a panic.
pub const EXIT_STATUS: u8 = 101;

const NOBODY: u32 = u32::MAX;

/// The CPU that panicked first.
static PANICKING: AtomicU32 = AtomicU32::new(NOBODY);

/// Where the report goes: to the serial port, and to the screen where there is one.
struct Report;

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        klog::Polled.write_str(text)?;
        screen::panic::write(text);
        Ok(())
    }
}

/// Prints one return address with its symbol.
struct Address(u64);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match symbols::look_up(self.0) {
            Some((name, offset)) => write!(f, "{:#018x} {name}+{offset:#x}", self.0),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}

/// Halts the calling CPU if another one has panicked. Called at the end of every interrupt.
pub fn stop_if_panicking() {
    let who = PANICKING.load(Ordering::Relaxed);
    if who != NOBODY && who != PerCpu::cpu_id() {
        halt();
    }
}

fn halt() -> ! {
    loop {
        Cpu::mask_interrupts();
        Cpu::idle();
    }
}

/// Ends the machine because of a Rust panic.
pub fn from_rust(info: &core::panic::PanicInfo<'_>) -> ! {
    report(Cpu::frame_pointer(), |out| match info.location() {
        Some(at) => writeln!(out, "kernel panic at {}:{}: {}", at.file(), at.line(), info.message()),
        None => writeln!(out, "kernel panic: {}", info.message()),
    })
}

/// Ends the machine because of a fault of the kernel.
pub fn from_fault(fault: &KernelFault) -> ! {
    report(fault.frame_pointer, |out| {
        write!(out, "kernel fault: {} at {}", fault.what, Address(fault.instruction))?;
        if let Some(address) = fault.address {
            write!(out, ", touching {address:#x}")?;
        }
        writeln!(out, ", code {:#x}, sp {:#x}", fault.code, fault.stack_pointer)
    })
}

fn report(frame_pointer: u64, what: impl FnOnce(&mut Report) -> fmt::Result) -> ! {
    Cpu::mask_interrupts();
    let this = PerCpu::cpu_id();
    if let Err(first) = PANICKING.compare_exchange(NOBODY, this, Ordering::AcqRel, Ordering::Relaxed) {
        if first == this {
            // A panic while reporting one: say so and leave.
            let _ = writeln!(Report, "\nkernel panic while panicking");
            Cpu::shutdown(Shutdown::PowerOff(EXIT_STATUS));
        }
        halt();
    }
    PerCpu::set_in_interrupt(false);
    for other in cpu::online_cpus().filter(|cpu| *cpu != this) {
        controller().send_ipi(other);
    }
    let _ = print(frame_pointer, this, what);
    // Somebody has to read it before it is gone, unless somebody waits for the status.
    if screen::panic::is_seen() && command_line::value("exit").is_none() {
        halt();
    }
    Cpu::shutdown(Shutdown::PowerOff(EXIT_STATUS))
}

fn print(frame_pointer: u64, this: u32, what: impl FnOnce(&mut Report) -> fmt::Result) -> fmt::Result {
    let mut out = Report;
    writeln!(out)?;
    what(&mut out)?;
    writeln!(out, "build {}, CPU {this}; backtrace:", BuildId)?;
    let (mut depth, mut last, mut same) = (0, 0, 0);
    Cpu::backtrace(frame_pointer, &mut |address| {
        if address == last {
            same += 1;
        } else {
            print_repeats(same);
            (last, same) = (address, 0);
            // A return address may be the next function's start; the call lies before it.
            let _ = writeln!(Report, "  {depth:2}: {}", Address(address.saturating_sub(1)));
        }
        depth += 1;
    });
    print_repeats(same);
    for cpu in cpu::online_cpus() {
        writeln!(out, "CPU {cpu}: {}", cpu::Status(cpu))?;
    }
    trace::write_last(&mut out)
}

/// Says that the frame printed last stands on the stack so many times more: a stack overflow has hundreds of them.
fn print_repeats(times: u32) {
    if times > 0 {
        let _ = writeln!(Report, "      the same {times} times more");
    }
}
