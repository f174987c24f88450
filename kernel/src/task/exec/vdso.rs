//! The kernel's part of every program (vdso(7)): a page of code, which reads clocks without a call and is where signal handlers
//! return to, and before it the page of data that this code reads.
//!
//! The code is the shared object of `hal/vdso`, built by this crate's build script.

use core::sync::atomic::Ordering;

use elf::{ElfBytes, endian::LittleEndian};
use hal::{
    PAGE_SIZE,
    arch::{PageTable, Timer, UserContext},
    signal::SignalFrames,
    traits::{PageTableOps, TimerOps},
    vdso::Page,
};
use spin::Once;

use crate::{
    errno::{Errno, Result},
    mm::{
        AddressSpace,
        frame::{self, Frame},
    },
    namespace::TimeNamespace,
    rt,
    sync::{Rank, SpinLock},
    task::process::Process,
};

/// The shared object; empty on the host, whose programs are not real.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso.so"));

const _: () = assert!(IMAGE.len() <= PAGE_SIZE, "the vDSO is one page");

/// What all programs share.
struct Pages {
    data: Frame,
    code: Frame,
    /// How far behind the object's beginning signal handlers return to.
    signal_return: Option<u64>,
}

static PAGES: Once<Pages> = Once::new();
/// Held while the page of data is written.
static WRITING: SpinLock<()> = SpinLock::new(Rank::Clocks, ());

/// Where a program has the vDSO.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vdso {
    /// The object's beginning (`AT_SYSINFO_EHDR`).
    pub base: u64,
    /// Where handlers return to in programs that give no restorer; 0 where all of them do.
    pub signal_return: u64,
}

/// The page of data of those whose clocks are not the machine's: one of zeroes, by which programs make calls.
static CLOCKLESS: Once<Frame> = Once::new();

/// The page of data of who is in that time namespace.
fn data_in(time: &TimeNamespace, pages: &Pages) -> Result<Frame> {
    if time.is_first() {
        return Ok(pages.data.clone());
    }
    let clockless = CLOCKLESS.try_call_once(|| {
        let page = frame::allocate_zeroed()?;
        page.set_of_file(true);
        Ok::<_, Errno>(page)
    })?;
    Ok(clockless.clone())
}

/// Has the clocks that are read in that memory be those of a time namespace.
///
/// # Errors
/// `ENOMEM`.
pub async fn enter_time(mm: &AddressSpace, time: &TimeNamespace) -> Result<()> {
    let Some(pages) = PAGES.get() else { return Ok(()) };
    let data = data_in(time, pages)?;
    mm.replace_vvar(&data).await
}

/// Maps it for who is in that time namespace; `None` on machines that have none.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn map(mm: &AddressSpace, time: &TimeNamespace) -> Result<Option<Vdso>> {
    if IMAGE.is_empty() {
        return Ok(None);
    }
    let pages = PAGES.try_call_once(make)?;
    let base = mm.map_vdso(data_in(time, pages)?, pages.code.clone())?;
    Ok(Some(Vdso {
        base,
        signal_return: pages.signal_return.map_or(0, |offset| base + offset),
    }))
}

fn make() -> Result<Pages> {
    let (data, code) = (frame::allocate_zeroed()?, frame::allocate_zeroed()?);
    publish(&data);
    code.write(0, IMAGE);
    PageTable::sync_instruction_cache(code.address());
    // As a file's pages they are the same for everybody: a fork leaves them to faults.
    data.set_of_file(true);
    code.set_of_file(true);
    let signal_return = UserContext::SIGNAL_RETURN.map(|name| symbol(name).ok_or(Errno::ENOEXEC));
    Ok(Pages {
        data,
        code,
        signal_return: signal_return.transpose()?,
    })
}

/// The value of one of the object's symbols.
fn symbol(name: &str) -> Option<u64> {
    let object = ElfBytes::<LittleEndian>::minimal_parse(IMAGE).ok()?;
    let (symbols, names) = object.dynamic_symbol_table().ok()??;
    let mut symbols = symbols.iter();
    symbols
        .find(|symbol| names.get(symbol.st_name as usize).is_ok_and(|found| found == name))
        .map(|symbol| symbol.st_value)
}

/// Tells programs of a new wall clock.
pub fn clock_was_set() {
    // Whoever makes the pages at this moment sees the new clock.
    if let Some(pages) = PAGES.get() {
        publish(&pages.data);
    }
}

/// Writes how clocks are read. The last to do so has seen the last change.
fn publish(data: &Frame) {
    let _one = WRITING.lock();
    Page::new(data.words()).publish(Timer::user_counter(), rt::boot_wall_clock());
}

/// Where signal handlers return to in a process whose program gives no restorer.
pub fn signal_return(process: &Process) -> u64 {
    process.signal_return.load(Ordering::Relaxed)
}

/// Says that a process has moved a mapping: where its handlers return to moves along.
pub fn moved(process: &Process, from: u64, length: u64, to: u64) {
    let place = signal_return(process);
    if let Some(offset) = place.checked_sub(from).filter(|offset| *offset < length) {
        process.signal_return.store(to + offset, Ordering::Relaxed);
    }
}
