//! The task core: a header in the slab, a future in one allocation, and the rules by which they are reached.
//!
//! The header is type-stable: once its chunk exists it is a `Header` for ever, so an integer waker may look at it whatever
//! has become of the task. The future stands in the header itself if it is small, else in an allocation of its own (its
//! *cell* either way). It is reached by the CPU that took the task from its queue, and from `COMPLETE` on by the join
//! handle, or by whoever frees the slot; [`State`] appoints exactly one of them at a time.

#![expect(
    unsafe_code,
    reason = "the task core: type-erased futures, appointed by the state word"
)]

use alloc::alloc::{alloc, dealloc};
use core::{
    alloc::Layout,
    cell::UnsafeCell,
    future::Future,
    mem::MaybeUninit,
    panic::Location,
    pin::Pin,
    ptr::NonNull,
    sync::atomic::AtomicPtr,
    task::{Context, Poll, Waker},
};

use crate::{
    latency::Latencies,
    options::{Class, Name, SpawnOptions, TaskId},
    prim::{AtomicU32, ExclusiveCell, Ordering::Relaxed, OwnedU32, OwnedU64},
    slab::{Cache, Slab, Slot},
    state::State,
    waker::Target,
};

/// Bytes of a future, with its output, that stand in the header.
pub const INLINE_BYTES: usize = 64;

/// What a cell holds.
enum Stage<F: Future> {
    Future(F),
    Output(F::Output),
    Empty,
}

/// The functions of one future type, over its type-erased cell.
struct Vtable {
    poll: unsafe fn(NonNull<()>, &mut Context<'_>) -> Poll<()>,
    clear: unsafe fn(NonNull<()>),
    take: unsafe fn(NonNull<()>, NonNull<()>),
    free: unsafe fn(NonNull<()>),
}

struct Of<F>(core::marker::PhantomData<F>);

impl<F: Future> Of<F> {
    /// Whether the cell stands in the header.
    const INLINE: bool = size_of::<Stage<F>>() <= INLINE_BYTES && align_of::<Stage<F>>() <= align_of::<Space>();

    const VTABLE: Vtable = Vtable {
        poll: Self::poll,
        clear: Self::clear,
        take: Self::take,
        free: Self::free,
    };

    /// # Safety
    /// `cell` is a live `Stage<F>` that nobody else accesses; it does not move until freed.
    unsafe fn poll(cell: NonNull<()>, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: by this function's contract.
        let stage = unsafe { cell.cast::<Stage<F>>().as_mut() };
        let Stage::Future(future) = stage else {
            return Poll::Ready(());
        };
        // SAFETY: the cell never moves, and the future is dropped in place.
        match unsafe { Pin::new_unchecked(future) }.poll(context) {
            Poll::Ready(output) => {
                *stage = Stage::Empty;
                *stage = Stage::Output(output);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Drops the future or the output in place.
    ///
    /// # Safety
    /// As for `poll`.
    unsafe fn clear(cell: NonNull<()>) {
        // SAFETY: by this function's contract.
        unsafe { *cell.cast::<Stage<F>>().as_mut() = Stage::Empty };
    }

    /// Moves the output, if there is one, to `out`, an `Option<F::Output>`.
    ///
    /// # Safety
    /// As for `poll`; `out` is a live `Option<F::Output>` of the caller's.
    unsafe fn take(cell: NonNull<()>, out: NonNull<()>) {
        // SAFETY: by this function's contract.
        let stage = unsafe { cell.cast::<Stage<F>>().as_mut() };
        if matches!(stage, Stage::Output(_)) {
            let Stage::Output(output) = core::mem::replace(stage, Stage::Empty) else {
                return;
            };
            // SAFETY: by this function's contract.
            unsafe { *out.cast::<Option<F::Output>>().as_mut() = Some(output) };
        }
    }

    /// # Safety
    /// As for `poll`; the cell is not used again.
    unsafe fn free(cell: NonNull<()>) {
        // SAFETY: by this function's contract; the layout is the one it was allocated with.
        unsafe {
            cell.cast::<Stage<F>>().drop_in_place();
            if !Self::INLINE {
                dealloc(cell.as_ptr().cast(), Layout::new::<Stage<F>>());
            }
        }
    }
}

/// A future in its place.
struct Cell {
    data: NonNull<()>,
    vtable: &'static Vtable,
}

// SAFETY: a cell is made of a `Send` future with a `Send` output and has one owner.
unsafe impl Send for Cell {}

impl Drop for Cell {
    fn drop(&mut self) {
        // SAFETY: the cell is owned and not used again.
        unsafe { (self.vtable.free)(self.data) };
    }
}

/// Room for a small future.
#[repr(align(64))]
struct Space(UnsafeCell<MaybeUninit<[u8; INLINE_BYTES]>>);

/// In a header's class word: something of the task was measured.
const MEASURED: u32 = 1 << 31;

/// No task: the end of a list, an empty slot number.
pub const NONE: u32 = u32::MAX;

/// A slot of the slab: four cache lines. The first holds what a wake and a poll touch, the second a small future.
#[repr(C, align(64))]
pub struct Header {
    /// Who may do what with the task.
    pub state: State,
    cell: ExclusiveCell<Option<Cell>>,
    /// The slot's own number.
    pub slot: u32,
    /// The link of its CPU's list, or of the free slots.
    pub next: OwnedU32,
    /// The link of its CPU's inbox.
    pub inbox_next: AtomicU32,
    /// 1 while it stands in its home CPU's list, of the timer or service class. That CPU's own.
    pub queued: OwnedU32,
    /// The CPU in whose queues the task stands when it is ready. Written by the owner of the link.
    pub home: OwnedU32,
    /// The class in the low byte, a driver's number above, and [`MEASURED`].
    class: OwnedU32,
    /// Polls begun.
    pub polls: OwnedU64,
    /// The number of the joiner's waker, once `JOINER` is set.
    pub joiner: OwnedU64,
    space: Space,
    /// Share, see [`crate::WEIGHT_ONE`].
    pub weight: OwnedU32,
    /// How many hold an abort off, see [`crate::HoldAbort`].
    pub holds: OwnedU32,
    /// Links of the user queue's heap, under its lock.
    pub child: OwnedU32,
    /// See `child`.
    pub sibling: OwnedU32,
    /// See `child`: the left sibling, or the parent for a first child.
    pub previous: OwnedU32,
    /// CPU of the last wake, or `NONE`.
    pub last_waker: OwnedU32,
    /// Weighted run time; the user class's order.
    pub vruntime: OwnedU64,
    /// CPUs it may run on.
    pub affinity: OwnedU64,
    /// Nanoseconds polled, user mode included.
    pub run_ns: OwnedU64,
    /// Nanoseconds of that in user mode.
    pub user_ns: OwnedU64,
    /// The longest poll in nanoseconds, user mode left out.
    pub longest_poll_ns: OwnedU64,
    name: [OwnedU64; 2],
    location: AtomicPtr<Location<'static>>,
    /// When it was woken, if that is being timed; else 0.
    pub woken_at: OwnedU64,
    /// Waits from wake to poll, if that is being timed.
    pub latencies: Latencies,
    /// The waker of a joiner that is no task of this executor.
    foreign: ExclusiveCell<Option<Waker>>,
}

// SAFETY: everything shared is an atomic, except `cell`, `space` and `foreign`, whose accessors demand the state word's
// appointment.
unsafe impl Sync for Header {}
// SAFETY: a cell's contents are `Send`, and so is a waker.
unsafe impl Send for Header {}

impl Slot for Header {
    fn new(slot: u32) -> Self {
        Self {
            state: State::new(),
            cell: ExclusiveCell::new(None),
            slot,
            next: OwnedU32::new(NONE),
            inbox_next: AtomicU32::new(NONE),
            queued: OwnedU32::new(0),
            home: OwnedU32::new(0),
            class: OwnedU32::new(0),
            polls: OwnedU64::new(0),
            joiner: OwnedU64::new(0),
            space: Space(UnsafeCell::new(MaybeUninit::uninit())),
            weight: OwnedU32::new(0),
            holds: OwnedU32::new(0),
            child: OwnedU32::new(NONE),
            sibling: OwnedU32::new(NONE),
            previous: OwnedU32::new(NONE),
            last_waker: OwnedU32::new(NONE),
            vruntime: OwnedU64::new(0),
            affinity: OwnedU64::new(0),
            run_ns: OwnedU64::new(0),
            user_ns: OwnedU64::new(0),
            longest_poll_ns: OwnedU64::new(0),
            name: [OwnedU64::new(0), OwnedU64::new(0)],
            location: AtomicPtr::new(core::ptr::null_mut()),
            woken_at: OwnedU64::new(0),
            latencies: Latencies::new(),
            foreign: ExclusiveCell::new(None),
        }
    }

    fn slot(&self) -> u32 {
        self.slot
    }

    fn next(&self) -> &OwnedU32 {
        &self.next
    }
}

impl Header {
    /// Allocates a slot for a future and moves it to its place: into the header if it is small, else into an allocation.
    /// `None`, the future dropped, if there is no memory. `cache` is the calling CPU's.
    #[inline]
    pub fn allocate<'a, F>(slab: &'a Slab<Self>, cache: Option<&Cache>, future: F) -> Option<&'a Self>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = slab.allocate(cache)?;
        // SAFETY: just allocated for this call.
        if unsafe { task.place(future) } {
            return Some(task);
        }
        slab.free(task, cache);
        None
    }

    /// # Safety
    /// The slot was allocated from the slab for the caller, who has not initialised it yet.
    #[inline]
    unsafe fn place<F>(&self, future: F) -> bool
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let data = if Of::<F>::INLINE {
            self.space.0.get().cast::<u8>()
        } else {
            // SAFETY: what is not inline is larger than nothing.
            unsafe { alloc(Layout::new::<Stage<F>>()) }
        };
        let Some(data) = NonNull::new(data.cast::<Stage<F>>()) else {
            return false;
        };
        // SAFETY: large and aligned enough, and nobody else's: freshly allocated, or the slot's own space.
        unsafe { data.write(Stage::Future(future)) };
        let cell = Cell {
            data: data.cast(),
            vtable: const { &Of::<F>::VTABLE },
        };
        // SAFETY: the slot is the caller's alone until the state says otherwise. A free slot holds no cell.
        unsafe { self.cell.with(|slot| core::mem::forget(slot.replace(cell))) };
        true
    }

    /// Fills in the rest of a slot whose future has been placed. [`State::init`] then makes it a task.
    #[inline]
    pub fn prepare(&self, options: &SpawnOptions, home: u32, at: &'static Location<'static>) {
        if self.class.get() & MEASURED != 0 {
            self.forget_measurements();
        }
        self.class.set(options.class as u32);
        self.home.set(home);
        self.set_weight(options.weight);
        self.last_waker.set(NONE);
        self.affinity.set(options.affinity);
        self.set_name(options.name);
        self.location.store(core::ptr::from_ref(at).cast_mut(), Relaxed);
        self.polls.set(0);
        self.holds.set(0);
        self.vruntime.set(0);
    }

    #[cold]
    fn forget_measurements(&self) {
        for cell in [&self.run_ns, &self.user_ns, &self.longest_poll_ns, &self.woken_at] {
            cell.set(0);
        }
        self.latencies.clear();
    }

    /// Something is written to what is measured of the task. By its poller.
    pub fn set_measured(&self) {
        self.class.set(self.class.get() | MEASURED);
    }

    /// The number of its waker, see [`crate::waker`].
    #[inline]
    pub fn number(&self, generation: u32) -> u64 {
        if self.class() == Class::Driver {
            Target::driver(self.home.get(), self.driver())
        } else {
            TaskId::new(self.slot, generation).0
        }
    }

    /// The task's class.
    pub fn class(&self) -> Class {
        Class::from_bits(self.class.get() & 0xff)
    }

    /// The driver's number.
    pub fn driver(&self) -> u32 {
        self.class.get() >> 8 & 0xffff
    }

    /// Makes the task, a driver, one of this number.
    pub fn set_driver(&self, driver: u32) {
        self.class.set(Class::Driver as u32 | driver << 8);
    }

    /// Sets the share; zero counts as one.
    pub fn set_weight(&self, weight: u32) {
        self.weight.set(weight.max(1));
    }

    /// Sets the name.
    pub fn set_name(&self, name: Name) {
        let words = name.words();
        self.name[0].set(words[0]);
        self.name[1].set(words[1]);
    }

    /// The name.
    pub fn name(&self) -> Name {
        Name::from_words([self.name[0].get(), self.name[1].get()])
    }

    /// Where the task was spawned.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        // SAFETY: null, or stored from a `&'static Location`.
        unsafe { self.location.load(Relaxed).as_ref() }
    }

    /// Polls the future; true when it has ended and its output stands in the cell.
    ///
    /// # Safety
    /// The caller took the task from its queue, and the state said that it may poll.
    #[inline]
    pub unsafe fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the state appoints the caller. The access is a pointer copied out, because the future may reach its own
        // header (by its waker) while it is polled.
        let Some((data, vtable)) = (unsafe {
            self.cell
                .with(|cell| cell.as_ref().map(|cell| (cell.data, cell.vtable)))
        }) else {
            return Poll::Ready(());
        };
        // SAFETY: the cell is live until the task has ended.
        unsafe { (vtable.poll)(data, context) }
    }

    /// Drops the future, or the output, in place.
    ///
    /// # Safety
    /// As for `poll`.
    pub unsafe fn clear(&self) {
        // SAFETY: as in `poll`.
        let parts = unsafe {
            self.cell
                .with(|cell| cell.as_ref().map(|cell| (cell.data, cell.vtable)))
        };
        if let Some((data, vtable)) = parts {
            // SAFETY: the cell is live until the task has ended.
            unsafe { (vtable.clear)(data) };
        }
    }

    /// Takes the output; `None` if the task was aborted or the output taken before.
    ///
    /// # Safety
    /// The caller is the join handle, has seen `COMPLETE`, and `T` is the future's output type.
    #[inline]
    pub unsafe fn take_output<T>(&self) -> Option<T> {
        let mut output = None::<T>;
        // SAFETY: from `COMPLETE` on the cell is the handle's.
        unsafe {
            self.cell.with(|cell| {
                if let Some(cell) = cell {
                    (cell.vtable.take)(cell.data, NonNull::from(&mut output).cast());
                }
            });
        }
        output
    }

    /// Puts a waker into the foreign joiner's place, or takes it out.
    ///
    /// # Safety
    /// The caller is the join handle and `FOREIGN` and `COMPLETE` are clear, or it is the completer and `FOREIGN` was set,
    /// or it frees the slot.
    pub unsafe fn replace_foreign(&self, waker: Option<Waker>) -> Option<Waker> {
        // SAFETY: by this function's contract.
        unsafe { self.foreign.with(|place| core::mem::replace(place, waker)) }
    }

    /// Drops what is left of the task and ends the generation. The slot may then go back to the slab.
    ///
    /// # Safety
    /// The state word has appointed the caller to free the slot.
    pub unsafe fn retire(&self) {
        // SAFETY: by this function's contract nobody else reaches the slot any more.
        let cell = unsafe { self.cell.with(Option::take) };
        self.state.retire();
        drop(cell);
    }
}
