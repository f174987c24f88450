//! The task core: a header in the slab, a future in one allocation, and the rules by which they are reached.
//!
//! The header is type-stable: once its chunk exists it is a `Header` for ever, so an integer waker may look at it whatever
//! has become of the task. The future's allocation (its *cell*) is reached by the CPU that holds `RUNNING`, and from
//! `COMPLETE` on by the join handle, or by whoever frees the slot; [`State`] appoints exactly one of them at a time.

#![expect(
    unsafe_code,
    reason = "the task core: type-erased futures, appointed by the state word"
)]

use alloc::alloc::{alloc, dealloc};
use core::{
    alloc::Layout,
    future::Future,
    panic::Location,
    pin::Pin,
    ptr::NonNull,
    sync::atomic::AtomicPtr,
    task::{Context, Poll, Waker},
};

use crate::{
    options::{Class, SpawnOptions},
    prim::{ExclusiveCell, Ordering::Relaxed, OwnedU32, OwnedU64, const_fn},
    state::State,
};

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
            dealloc(cell.as_ptr().cast(), Layout::new::<Stage<F>>());
        }
    }
}

/// A future on its way into a task: allocated, owned.
pub struct Cell {
    data: NonNull<()>,
    vtable: &'static Vtable,
}

// SAFETY: a cell is made of a `Send` future with a `Send` output and has one owner.
unsafe impl Send for Cell {}

impl Cell {
    /// Moves the future to memory of its own; `None`, the future dropped, if there is none.
    pub fn new<F>(future: F) -> Option<Self>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let layout = Layout::new::<Stage<F>>();
        // SAFETY: three variants take at least a byte, so the layout is not empty.
        let data = NonNull::new(unsafe { alloc(layout) })?.cast::<Stage<F>>();
        // SAFETY: freshly allocated with this very layout.
        unsafe { data.write(Stage::Future(future)) };
        Some(Self {
            data: data.cast(),
            vtable: const { &Of::<F>::VTABLE },
        })
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // SAFETY: the cell is owned and not used again.
        unsafe { (self.vtable.free)(self.data) };
    }
}

/// No task: the end of a list, an empty slot number.
pub const NONE: u32 = u32::MAX;

/// A slot of the slab.
#[repr(align(64))]
pub struct Header {
    /// Who may do what with the task.
    pub state: State,
    /// The slot's own number.
    pub slot: u32,
    /// The one queue link: inbox, class list or free list, whichever the state says.
    pub next: OwnedU32,
    /// The CPU in whose queues the task stands when it is ready. Written by the owner of the link.
    pub home: OwnedU32,
    class: OwnedU32,
    /// The driver bit.
    pub bit: OwnedU32,
    /// Share, see [`crate::WEIGHT_ONE`].
    pub weight: OwnedU32,
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
    /// Polls begun.
    pub polls: OwnedU64,
    /// Nanoseconds polled, user mode included.
    pub run_ns: OwnedU64,
    /// Nanoseconds of that in user mode.
    pub user_ns: OwnedU64,
    /// The longest poll in nanoseconds, user mode left out.
    pub longest_poll_ns: OwnedU64,
    name: [OwnedU64; 2],
    location: AtomicPtr<Location<'static>>,
    cell: ExclusiveCell<Option<Cell>>,
    joiner: ExclusiveCell<Option<Waker>>,
}

// SAFETY: everything shared is an atomic, except `cell` and `joiner`, whose accessors demand the state word's appointment.
unsafe impl Sync for Header {}
// SAFETY: a cell's contents are `Send`, and so is a waker.
unsafe impl Send for Header {}

impl Header {
    const_fn! {
        /// A free slot.
        pub fn new(slot: u32) -> Self {
            Self {
                state: State::new(),
                slot,
                next: OwnedU32::new(NONE),
                home: OwnedU32::new(0),
                class: OwnedU32::new(0),
                bit: OwnedU32::new(NONE),
                weight: OwnedU32::new(0),
                child: OwnedU32::new(NONE),
                sibling: OwnedU32::new(NONE),
                previous: OwnedU32::new(NONE),
                last_waker: OwnedU32::new(NONE),
                vruntime: OwnedU64::new(0),
                affinity: OwnedU64::new(0),
                polls: OwnedU64::new(0),
                run_ns: OwnedU64::new(0),
                user_ns: OwnedU64::new(0),
                longest_poll_ns: OwnedU64::new(0),
                name: [OwnedU64::new(0), OwnedU64::new(0)],
                location: AtomicPtr::new(core::ptr::null_mut()),
                cell: ExclusiveCell::new(None),
                joiner: ExclusiveCell::new(None),
            }
        }
    }

    /// Makes the free slot a task, not yet queued; returns its generation.
    ///
    /// # Safety
    /// The slot was allocated from the slab for the caller, who has not initialised it yet.
    pub unsafe fn init(
        &self,
        options: &SpawnOptions<'_>,
        home: u32,
        cell: Cell,
        at: &'static Location<'static>,
    ) -> u32 {
        self.class.set(options.class as u32);
        self.home.set(home);
        self.bit.set(NONE);
        self.set_weight(options.weight);
        self.last_waker.set(NONE);
        self.affinity.set(options.affinity);
        for cell in [
            &self.vruntime,
            &self.polls,
            &self.run_ns,
            &self.user_ns,
            &self.longest_poll_ns,
        ] {
            cell.set(0);
        }
        self.set_name(options.name);
        self.location.store(core::ptr::from_ref(at).cast_mut(), Relaxed);
        // SAFETY: the slot is the caller's alone until the state says otherwise.
        unsafe { self.cell.with(|slot| *slot = Some(cell)) };
        self.state.init()
    }

    /// The task's class.
    pub fn class(&self) -> Class {
        Class::from_bits(self.class.get())
    }

    /// Sets the share; zero counts as one.
    pub fn set_weight(&self, weight: u32) {
        self.weight.set(weight.max(1));
    }

    /// Keeps the first 16 bytes.
    pub fn set_name(&self, name: &str) {
        let mut bytes = [0; 16];
        let length = name.len().min(16);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        let word = u128::from_le_bytes(bytes);
        self.name[0].set(word as u64);
        self.name[1].set((word >> 64) as u64);
    }

    /// The name's bytes, padded with zeroes.
    pub fn name(&self) -> [u8; 16] {
        (u128::from(self.name[0].get()) | u128::from(self.name[1].get()) << 64).to_le_bytes()
    }

    /// Where the task was spawned.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        // SAFETY: null, or stored from a `&'static Location`.
        unsafe { self.location.load(Relaxed).as_ref() }
    }

    /// Polls the future; true when it has ended and its output stands in the cell.
    ///
    /// # Safety
    /// The caller holds `RUNNING`.
    pub unsafe fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `RUNNING` appoints the caller. The access is a pointer copied out, because the future may reach its own
        // header (by its waker) while it is polled.
        let Some((data, vtable)) = (unsafe {
            self.cell
                .with(|cell| cell.as_ref().map(|cell| (cell.data, cell.vtable)))
        }) else {
            return Poll::Ready(());
        };
        // SAFETY: the cell is live while `RUNNING` is held.
        unsafe { (vtable.poll)(data, context) }
    }

    /// Drops the future, or the output, in place.
    ///
    /// # Safety
    /// The caller holds `RUNNING`.
    pub unsafe fn clear(&self) {
        // SAFETY: as in `poll`.
        let parts = unsafe {
            self.cell
                .with(|cell| cell.as_ref().map(|cell| (cell.data, cell.vtable)))
        };
        if let Some((data, vtable)) = parts {
            // SAFETY: the cell is live while `RUNNING` is held.
            unsafe { (vtable.clear)(data) };
        }
    }

    /// Takes the output; `None` if the task was aborted or the output taken before.
    ///
    /// # Safety
    /// The caller is the join handle, has seen `COMPLETE`, and `T` is the future's output type.
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

    /// Puts a waker into the joiner's slot, or takes it out.
    ///
    /// # Safety
    /// The caller is the join handle and `JOINER` and `COMPLETE` are clear, or it is the completer after
    /// [`Completed::WakeJoiner`](crate::state::Completed::WakeJoiner), or it frees the slot.
    pub unsafe fn replace_joiner(&self, waker: Option<Waker>) -> Option<Waker> {
        // SAFETY: by this function's contract.
        unsafe { self.joiner.with(|slot| core::mem::replace(slot, waker)) }
    }

    /// Drops what is left of the task and ends the generation. The slot may then go back to the slab.
    ///
    /// # Safety
    /// The state word has appointed the caller to free the slot.
    pub unsafe fn retire(&self) {
        // SAFETY: by this function's contract nobody else reaches the slot any more.
        let (cell, joiner) = unsafe { (self.cell.with(Option::take), self.joiner.with(Option::take)) };
        self.state.retire();
        drop((cell, joiner));
    }
}
