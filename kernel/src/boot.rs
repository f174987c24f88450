//! From the first Rust line of the kernel to the first user program.

use alloc::sync::Arc;

use executor::{Class, SpawnOptions};
use hal::{
    arch::{Cpu, PerCpu, serial},
    boot_info::Machine,
    traits::{CpuOps, PerCpuOps},
};
use log::LevelFilter;

use crate::{
    build_id::BuildId,
    command_line, cpu, drivers, fs, klog,
    mm::{self, frame::Loaded},
    random, rt, symbols, task, trace,
    tty::Tty,
    wakeups,
};

/// How long CPUs may take until they run (ns).
const SECONDARIES: u64 = 1_000_000_000;

/// The boot CPU's whole life.
pub fn main(machine: &'static Machine) -> ! {
    klog::init();
    command_line::init(machine.command_line);
    cpu::set_online();
    cpu::set_status("boot");
    log::info!(
        "Breenix {} build {} on {}: {} CPUs, {} MiB",
        env!("CARGO_PKG_VERSION"),
        BuildId,
        machine.name,
        machine.cpus,
        machine.total_ram >> 20
    );
    // Only now: whoever judges a boot by its console must see which build it was.
    if command_line::has("quiet") {
        klog::set_console_level(LevelFilter::Error);
    }
    for fault in machine.faults {
        log::warn!("firmware: {fault}");
    }
    if machine.silent_blocks > 0 {
        log::warn!(
            "firmware: {} blocks of the interrupt controller's registers do not answer",
            machine.silent_blocks
        );
    }
    let mut initramfs = mm::frame::init(machine.usable, machine.initramfs);
    random::init(machine.entropy);
    rt::set_wall_clock(i64::try_from(machine.wall_clock_seconds.saturating_mul(1_000_000_000)).unwrap_or(0));
    if !initramfs.as_mut().is_some_and(symbols::init) {
        log::info!("no symbol table in the initramfs: backtraces show addresses only");
    }
    rt::executor().set_timing(true);
    if let Err(error) = trace::start_at_boot(machine.cpus) {
        log::error!("no trace: {error:?}");
    }
    start_secondaries(machine.cpus);
    let keeper = mm::shortage::Keeper::new();
    let killer = keeper.map(|keeper| rt::spawn(SpawnOptions::new(Class::Service, "oom"), task::oom::run(keeper)));
    if !matches!(killer, Some(Ok(()))) {
        panic!("no memory for the first task: {killer:?}");
    }
    let collector = SpawnOptions::new(Class::Service, "sockets");
    if let Err(error) = rt::spawn(collector, crate::net::unix::collect::run()) {
        panic!("no memory for the first tasks: {error:?}");
    }
    if let Err(error) = rt::spawn(SpawnOptions::new(Class::Service, "boot"), bring_up(machine, initramfs)) {
        panic!("no memory for the first task: {error:?}");
    }
    rt::run()
}

/// A secondary CPU's whole life.
pub fn secondary(cpu: u32) -> ! {
    debug_assert_eq!(cpu, PerCpu::cpu_id());
    cpu::set_online();
    rt::run()
}

fn start_secondaries(cpus: u32) {
    for cpu in 1..cpus {
        if !Cpu::start_cpu(cpu) {
            log::error!("CPU {cpu} does not start: firmware refused");
        }
    }
}

/// Root file system, console, `/init`.
async fn bring_up(machine: &'static Machine, initramfs: Option<Loaded>) {
    let tty = match console(machine) {
        Ok(tty) => tty,
        Err(error) => panic!("no console: {error:?}"),
    };
    if let Err(error) = drivers::pci::init(machine.pci) {
        log::error!("no PCI: {error:?}");
    }
    // Interrupts go to CPUs that are there.
    cpu::wait_online(machine.cpus, rt::now() + SECONDARIES).await;
    drivers::start(machine, &tty);
    let root = match fs::boot::root(initramfs).await {
        Ok(root) => root,
        Err(reason) => panic!("no root file system: {reason}"),
    };
    if command_line::value("measure") == Some("wakeups") {
        return wakeups::run().await;
    }
    let init = command_line::value("init").unwrap_or("/init");
    if let Err(error) = task::boot::start_init(init, root, tty).await {
        panic!("{init} does not start: {error:?}");
    }
}

fn console(machine: &'static Machine) -> crate::errno::Result<Arc<Tty>> {
    let tty = Tty::console()?;
    let driven = Arc::clone(&tty);
    let screen = machine.framebuffer.as_ref().and_then(drivers::screen::start);
    if let Some(screen) = &screen {
        tty.set_first_size(screen.size());
    }
    rt::spawn(SpawnOptions::new(Class::Driver, "uart"), async move {
        if let Err(error) = drivers::uart::run(serial::port(), Arc::clone(&driven), screen.clone()).await {
            log::error!("the console has no interrupt: {error:?}");
            if let Some(screen) = screen {
                klog::attach_driver();
                screen.write_log().await;
                screen.serve(&driven).await;
            }
        }
    })?;
    Ok(tty)
}
