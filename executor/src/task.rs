//! A task's memory: what a wake touches, and the rest, and the rules by which they are reached.
//!
//! Both parts are type-stable: once its chunk exists a slot is a task's for ever, so an integer waker may look at it whatever
//! has become of the task. The [`Head`]s stand packed, four to a cache line. The first line of the [`Body`] is what a poll
//! touches besides: a small future stands in it, a large one in an allocation of its own ([`crate::cell`]). The future is
//! reached by the CPU that took the task from its queue, and from `COMPLETE` on by the join handle, or by whoever frees the
//! slot; [`State`] appoints exactly one of them at a time.

#![expect(unsafe_code, reason = "the task core: futures reached as the state word appoints")]

use core::{
    future::Future,
    marker::PhantomData,
    ops::Deref,
    panic::Location,
    ptr::NonNull,
    sync::atomic::AtomicPtr,
    task::{Context, Poll, Waker},
};

use crate::{
    cell::{Of, Space, Vtable},
    latency::Latencies,
    options::{Class, Name, SpawnOptions, TaskId},
    platform::Platform,
    prim::{AtomicU16, AtomicU32, AtomicU64, ExclusiveCell, Ordering::Relaxed, OwnedU8, OwnedU16, OwnedU32, OwnedU64},
    real_time::Share,
    slab::{Cache, Slab, Slot},
    state::State,
    waker::Target,
};

/// No task: the end of a list, an empty slot number. Zero, so that an executor that has done nothing yet takes no room in the
/// kernel's image.
pub const NONE: u32 = 0;

/// The virtual time of a user task that has never been queued.
pub const NEW: u64 = u64::MAX;

/// No CPU.
const NO_CPU: u8 = u8::MAX;
/// In the class: something of the task was measured.
const MEASURED: u8 = 1 << 7;
/// In the class: the handle has left the number of a waker, and nobody but the home CPU needs to know.
const JOINED: u8 = 1 << 6;

/// What a wake touches.
#[repr(C, align(16))]
pub struct Head {
    /// Who may do what with the task.
    pub state: State,
    /// The link of its CPU's list, or of the free slots; of a user task, whose lists are others, what is left of its slice.
    pub next: OwnedU32,
    /// The CPU in whose queues the task stands when it is ready. Written by the owner of the link.
    home: OwnedU8,
    /// The class, [`MEASURED`] and [`JOINED`].
    class: OwnedU8,
    /// 1 while it stands in its home CPU's list, of the timer or service class. That CPU's own. Of a user task the mark of the
    /// queue that it stands in, under that queue's lock; see [`crate::queue`].
    pub queued: OwnedU8,
    /// CPU of the last wake, or `NO_CPU`.
    last_waker: OwnedU8,
}

/// The rest: three cache lines. The first holds what a poll touches, the second what the user class goes by.
#[repr(C, align(64))]
pub struct Body {
    vtable: ExclusiveCell<Option<&'static Vtable>>,
    /// Polls begun.
    pub polls: OwnedU64,
    space: Space,
    /// Links of a heap of the user queue, under its lock.
    pub sibling: OwnedU32,
    /// See `sibling`: the left sibling, or the parent for a first child.
    pub previous: OwnedU32,
    /// The link of its CPU's inbox; while it stands in a heap of the user queue, the first child, under that queue's lock.
    pub inbox_next: AtomicU32,
    /// A user task's [`Share`].
    pub share: OwnedU32,
    /// Where it stands in the user class's order: of a fair task the weighted run time.
    pub key: OwnedU64,
    /// CPUs it may run on.
    pub affinity: OwnedU64,
    /// Nanoseconds polled, user mode included.
    pub run_ns: OwnedU64,
    /// Nanoseconds of that in user mode.
    pub user_ns: OwnedU64,
    /// The longest poll in nanoseconds, user mode left out; the most that fits, if it was longer.
    longest_poll_ns: OwnedU32,
    /// How many hold an abort off, see [`crate::HoldAbort`].
    pub holds: AtomicU16,
    /// A driver's number on its CPU.
    driver: OwnedU16,
    /// The number of the joiner's waker, once `JOINER` or [`JOINED`] is set.
    pub joiner: AtomicU64,
    name: [OwnedU64; 2],
    location: AtomicPtr<Location<'static>>,
    /// When it was woken, if that is being timed; else 0.
    pub woken_at: OwnedU64,
    /// Waits from wake to poll, if that is being timed.
    pub latencies: Latencies,
    /// The waker of a joiner that is no task of this executor.
    foreign: ExclusiveCell<Option<Waker>>,
}

// SAFETY: everything shared is an atomic, except `vtable`, `space` and `foreign`, whose accessors demand the state word's
// appointment; what they hold is `Send`.
unsafe impl Sync for Body {}

impl Slot for Head {
    type Rest = Body;
    type Ref<'a> = Task<'a>;

    fn new(_: u32) -> (Self, Body) {
        let head = Self {
            state: State::new(),
            next: OwnedU32::new(NONE),
            home: OwnedU8::new(0),
            class: OwnedU8::new(0),
            queued: OwnedU8::new(0),
            last_waker: OwnedU8::new(NO_CPU),
        };
        let body = Body {
            vtable: ExclusiveCell::new(None),
            polls: OwnedU64::new(0),
            space: Space::new(),
            sibling: OwnedU32::new(NONE),
            previous: OwnedU32::new(NONE),
            inbox_next: AtomicU32::new(NONE),
            share: OwnedU32::new(0),
            key: OwnedU64::new(0),
            affinity: OwnedU64::new(0),
            run_ns: OwnedU64::new(0),
            user_ns: OwnedU64::new(0),
            longest_poll_ns: OwnedU32::new(0),
            holds: AtomicU16::new(0),
            driver: OwnedU16::new(0),
            joiner: AtomicU64::new(0),
            name: [OwnedU64::new(0), OwnedU64::new(0)],
            location: AtomicPtr::new(core::ptr::null_mut()),
            woken_at: OwnedU64::new(0),
            latencies: Latencies::new(),
            foreign: ExclusiveCell::new(None),
        };
        (head, body)
    }

    #[inline]
    unsafe fn at<'a>(number: u32, slot: NonNull<Self>) -> Task<'a>
    where
        Self: 'a,
    {
        Task {
            slot: number,
            place: slot,
            slab: PhantomData,
        }
    }

    #[inline]
    fn number(slot: Task<'_>) -> u32 {
        slot.slot
    }

    #[inline]
    fn link<'a>(slot: Task<'a>) -> &'a OwnedU32
    where
        Self: 'a,
    {
        &slot.head().next
    }
}

/// A slot of the slab of tasks, of which it is a reference to both parts. As the [`Body`] it derefs to.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The slot's number.
    pub slot: u32,
    place: NonNull<Head>,
    slab: PhantomData<&'a Slab<Head>>,
}

impl Deref for Task<'_> {
    type Target = Body;

    #[inline]
    fn deref(&self) -> &Body {
        self.body()
    }
}

impl<'a> Task<'a> {
    /// The packed part.
    #[inline]
    pub fn head(self) -> &'a Head {
        // SAFETY: found in a slab that outlives `'a`, and shared by reference only.
        unsafe { self.place.as_ref() }
    }

    /// The rest.
    #[inline]
    fn body(self) -> &'a Body {
        // SAFETY: as above, under that number.
        unsafe { Slab::<Head>::rest(self.slot, self.place).as_ref() }
    }

    /// Allocates a slot for a future and moves it to its place: into the slot if it is small, else into an allocation.
    /// `None`, the future dropped, if there is no memory. `cache` is the calling CPU's.
    #[inline]
    pub fn allocate<F>(slab: &'a Slab<Head>, cache: Option<&Cache>, future: F) -> Option<Self>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = slab.allocate(cache)?;
        // SAFETY: the slot is the caller's alone until the state says otherwise. A free one holds nothing.
        let filled = unsafe { Of::<F>::fill(&task.body().space, future) };
        if !filled {
            slab.free(task, cache);
            return None;
        }
        // SAFETY: as above.
        unsafe { task.body().vtable.with(|vtable| *vtable = Some(Of::<F>::VTABLE)) };
        Some(task)
    }

    /// Fills in the rest of a slot whose future has been placed. [`State::init`] then makes it a task.
    #[inline]
    pub fn prepare(self, options: &SpawnOptions, home: u32, at: &'static Location<'static>) {
        if self.head().class.get() & MEASURED != 0 {
            self.forget_measurements();
        }
        self.head().class.set(options.class as u8);
        self.head().queued.set(0);
        self.head().next.set(NONE);
        self.head().last_waker.set(NO_CPU);
        self.set_home(home);
        self.set_share(Share::new(options.weight, options.real_time));
        self.affinity.set(options.affinity);
        self.set_name(options.name);
        self.location.store(core::ptr::from_ref(at).cast_mut(), Relaxed);
        self.polls.set(0);
        self.holds.store(0, Relaxed);
        self.key.set(NEW);
    }

    #[cold]
    fn forget_measurements(self) {
        for cell in [&self.run_ns, &self.user_ns, &self.woken_at] {
            cell.set(0);
        }
        self.longest_poll_ns.set(0);
        self.latencies.clear();
    }

    /// The state word.
    #[inline]
    pub fn state(self) -> &'a State {
        &self.head().state
    }

    /// The CPU in whose queues the task stands when it is ready.
    #[inline]
    pub fn home(self) -> u32 {
        self.head().home.get().into()
    }

    /// Moves the task, by the owner of its link. A CPU's number is below 64.
    #[inline]
    pub fn set_home(self, cpu: u32) {
        self.head().home.set(cpu as u8);
    }

    /// Moves the task from a CPU that has left, if it is that one's.
    pub fn inherit(self, from: u32, to: u32) {
        self.head().home.replace(from as u8, to as u8);
    }

    /// Whether it stands in its CPU's list; see [`Head`].
    #[inline]
    pub fn is_queued(self) -> bool {
        self.head().queued.get() != 0
    }

    /// Notes that it stands in its CPU's list, or no longer does.
    #[inline]
    pub fn set_queued(self, queued: bool) {
        self.head().queued.set(queued.into());
    }

    /// The CPU of the last wake, if a CPU it was.
    pub fn last_waker(self) -> Option<u32> {
        let cpu = self.head().last_waker.get();
        (cpu != NO_CPU).then_some(cpu.into())
    }

    /// Notes who wakes it.
    #[inline]
    pub fn set_last_waker(self, cpu: u32) {
        self.head().last_waker.set(cpu.min(NO_CPU.into()) as u8);
    }

    /// Its first child in a heap of the user queue, under that queue's lock.
    pub fn child(self) -> u32 {
        self.inbox_next.load(Relaxed)
    }

    /// See [`Task::child`].
    pub fn set_child(self, child: u32) {
        self.inbox_next.store(child, Relaxed);
    }

    /// Something is written to what is measured of the task. By its poller.
    pub fn set_measured(self) {
        self.head().class.set(self.head().class.get() | MEASURED);
    }

    /// Leaves the number of the joiner's waker to the completer, if that is the calling CPU, `me`, in task context: then the task
    /// cannot end meanwhile, and no atomic operation is needed.
    #[inline]
    pub fn leave_joiner_at_home(self, me: u32, number: u64) -> bool {
        let at_home = me == self.home() && self.class() != Class::User;
        if at_home {
            self.joiner.store(number, Relaxed);
            self.head().class.set(self.head().class.get() | JOINED);
        }
        at_home
    }

    /// Whether such a number was left.
    #[inline]
    pub fn is_joined(self) -> bool {
        self.head().class.get() & JOINED != 0
    }

    /// The task's class.
    #[inline]
    pub fn class(self) -> Class {
        Class::from_bits((self.head().class.get() & !(MEASURED | JOINED)).into())
    }

    /// The number of its waker, see [`crate::waker`].
    #[inline]
    pub fn number(self, generation: u32) -> u64 {
        if self.class() == Class::Driver {
            Target::driver(self.home(), self.driver())
        } else {
            TaskId::new(self.slot, generation).0
        }
    }

    /// Which task it is now.
    pub fn id(self) -> TaskId {
        TaskId::new(self.slot, self.state().generation())
    }

    /// The driver's number.
    pub fn driver(self) -> u32 {
        self.driver.get().into()
    }

    /// Makes the task, a driver, one of this number, which is below [`DRIVERS_PER_CPU`](crate::DRIVERS_PER_CPU).
    pub fn set_driver(self, driver: u32) {
        self.driver.set(driver as u16);
    }

    /// Sets the name.
    pub fn set_name(self, name: Name) {
        let words = name.words();
        self.name[0].set(words[0]);
        self.name[1].set(words[1]);
    }

    /// The name.
    pub fn name(self) -> Name {
        Name::from_words([self.name[0].get(), self.name[1].get()])
    }

    /// Where the task was spawned.
    pub fn location(self) -> Option<&'static Location<'static>> {
        // SAFETY: null, or stored from a `&'static Location`.
        unsafe { self.location.load(Relaxed).as_ref() }
    }

    /// The longest poll in nanoseconds, up to 4.29 s.
    pub fn longest_poll_ns(self) -> u64 {
        self.longest_poll_ns.get().into()
    }

    /// A poll has taken so long. By the poller.
    pub fn note_poll_ns(self, ns: u64) {
        let ns = u32::try_from(ns).unwrap_or(u32::MAX);
        self.longest_poll_ns.set(self.longest_poll_ns.get().max(ns));
    }

    /// It is polled soon.
    #[inline]
    pub fn prefetch<P: Platform>(self) {
        P::prefetch(self.head());
        P::prefetch(self.body());
    }

    /// # Safety
    /// The caller may reach the future, or the output, as the functions below demand.
    #[inline]
    unsafe fn vtable(self) -> Option<&'static Vtable> {
        // SAFETY: by this function's contract. Copied out, because the future may reach its own task (by its waker) while it
        // is polled.
        unsafe { self.body().vtable.with(|vtable| *vtable) }
    }

    /// Polls the future; true when it has ended and its output stands in its place.
    ///
    /// # Safety
    /// The caller took the task from its queue, and the state said that it may poll.
    #[inline]
    pub unsafe fn poll(self, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the state appoints the caller; what stands in the space is live until the task has ended.
        unsafe {
            match self.vtable() {
                Some(vtable) => (vtable.poll)(&self.body().space, context),
                None => Poll::Ready(()),
            }
        }
    }

    /// Drops the future, or the output, in place.
    ///
    /// # Safety
    /// As for `poll`.
    pub unsafe fn clear(self) {
        // SAFETY: as in `poll`.
        unsafe {
            if let Some(vtable) = self.vtable() {
                (vtable.clear)(&self.body().space);
            }
        }
    }

    /// Takes the output; `None` if the task was aborted or the output taken before.
    ///
    /// # Safety
    /// The caller is the join handle, has seen `COMPLETE`, and `T` is the future's output type.
    #[inline]
    pub unsafe fn take_output<T>(self) -> Option<T> {
        let mut output = None::<T>;
        // SAFETY: from `COMPLETE` on the place is the handle's.
        unsafe {
            if let Some(vtable) = self.vtable() {
                (vtable.take)(&self.body().space, NonNull::from(&mut output).cast());
            }
        }
        output
    }

    /// Puts a waker into the foreign joiner's place, or takes it out.
    ///
    /// # Safety
    /// The caller is the join handle and `FOREIGN` and `COMPLETE` are clear, or it is the completer and `FOREIGN` was set,
    /// or it frees the slot.
    pub unsafe fn replace_foreign(self, waker: Option<Waker>) -> Option<Waker> {
        // SAFETY: by this function's contract.
        unsafe { self.body().foreign.with(|place| core::mem::replace(place, waker)) }
    }

    /// Drops what is left of the task and ends the generation. The slot may then go back to the slab.
    ///
    /// # Safety
    /// The state word has appointed the caller to free the slot.
    #[inline]
    pub unsafe fn retire(self) {
        // SAFETY: by this function's contract nobody else reaches the slot any more.
        let ended = self.head().state.retire();
        // SAFETY: as above.
        unsafe { self.drop_rest(ended) };
    }

    /// Drops what is left of a task whose generation has ended; `ended`: after its future had.
    ///
    /// # Safety
    /// As for [`Task::retire`]; once.
    #[inline]
    pub unsafe fn drop_rest(self, ended: bool) {
        // SAFETY: nobody else reaches the slot any more. The space was filled when the vtable was set, and is filled anew before
        // the slot is a task's again.
        unsafe {
            if let Some(vtable) = self.vtable()
                && !(ended && vtable.ends_clean)
            {
                (vtable.free)(&self.body().space);
            }
        }
    }
}
