//! A future in its place: type-erased, in the task's own memory if it is small, else in an allocation.

#![expect(unsafe_code, reason = "type-erased futures")]

use alloc::alloc::{alloc, dealloc};
use core::{
    alloc::Layout,
    cell::UnsafeCell,
    future::Future,
    marker::PhantomData,
    mem::{MaybeUninit, needs_drop},
    pin::Pin,
    ptr::NonNull,
    task::{Context, Poll},
};

/// Bytes of a future, with its output and a tag, that need no allocation of their own.
pub const INLINE_BYTES: usize = 48;

/// Room for a small future, or for the pointer to a large one.
#[repr(align(16))]
pub struct Space(UnsafeCell<MaybeUninit<[u8; INLINE_BYTES]>>);

impl Space {
    pub const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }
}

/// What a place holds.
enum Stage<F: Future> {
    Future(F),
    Output(F::Output),
    Empty,
}

/// The functions of one future type, over the space that was filled with one of it.
pub struct Vtable {
    pub poll: unsafe fn(&Space, &mut Context<'_>) -> Poll<()>,
    /// Drops the future or the output.
    pub clear: unsafe fn(&Space),
    /// Moves the output, if there is one, to an `Option<F::Output>`.
    pub take: unsafe fn(&Space, NonNull<()>),
    /// Drops what is there, and frees the allocation.
    pub free: unsafe fn(&Space),
    /// Once the future has ended, `free` does nothing.
    pub ends_clean: bool,
}

/// The functions of futures of type `F`. Each demands: the space was filled by [`Of::fill`], was not freed since, and
/// nobody else accesses it meanwhile.
pub struct Of<F>(PhantomData<F>);

impl<F: Future> Of<F> {
    const INLINE: bool = size_of::<Stage<F>>() <= INLINE_BYTES && align_of::<Stage<F>>() <= align_of::<Space>();

    pub const VTABLE: &'static Vtable = &Vtable {
        poll: Self::poll,
        clear: Self::clear,
        take: Self::take,
        free: Self::free,
        ends_clean: Self::INLINE && !needs_drop::<F::Output>(),
    };

    /// Moves a future to its place, or drops it: false if there is no memory.
    ///
    /// # Safety
    /// The space is the caller's, and holds nothing.
    #[inline]
    pub unsafe fn fill(space: &Space, future: F) -> bool {
        let room = space.0.get();
        let stage = if Self::INLINE {
            room.cast::<Stage<F>>()
        } else {
            // SAFETY: what is not inline is larger than nothing.
            let stage = unsafe { alloc(Layout::new::<Stage<F>>()) }.cast::<Stage<F>>();
            if stage.is_null() {
                return false;
            }
            // SAFETY: the space is aligned for a pointer, large enough, and the caller's.
            unsafe { room.cast::<*mut Stage<F>>().write(stage) };
            stage
        };
        // SAFETY: large and aligned enough, and nobody else's.
        unsafe { stage.write(Stage::Future(future)) };
        true
    }

    /// # Safety
    /// See [`Of`].
    #[expect(
        clippy::mut_from_ref,
        reason = "the space is a cell, and the caller's alone by contract"
    )]
    unsafe fn stage(space: &Space) -> &mut Stage<F> {
        let room = space.0.get();
        // SAFETY: filled by `fill`, so that what stands there is the stage or the pointer to it.
        unsafe {
            if Self::INLINE {
                &mut *room.cast::<Stage<F>>()
            } else {
                &mut **room.cast::<*mut Stage<F>>()
            }
        }
    }

    unsafe fn poll(space: &Space, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: by this function's contract.
        let stage = unsafe { Self::stage(space) };
        let Stage::Future(future) = stage else {
            return Poll::Ready(());
        };
        // SAFETY: the stage never moves, and the future is dropped in place.
        match unsafe { Pin::new_unchecked(future) }.poll(context) {
            Poll::Ready(output) => {
                // The future goes first, the output comes after, should dropping the one panic.
                if needs_drop::<F>() {
                    *stage = Stage::Empty;
                }
                *stage = Stage::Output(output);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    unsafe fn clear(space: &Space) {
        // SAFETY: by this function's contract.
        unsafe { *Self::stage(space) = Stage::Empty };
    }

    /// `out` is a live `Option<F::Output>` of the caller's.
    unsafe fn take(space: &Space, out: NonNull<()>) {
        // SAFETY: by this function's contract.
        let stage = unsafe { Self::stage(space) };
        if matches!(stage, Stage::Output(_)) {
            let Stage::Output(output) = core::mem::replace(stage, Stage::Empty) else {
                return;
            };
            // SAFETY: by this function's contract.
            unsafe { *out.cast::<Option<F::Output>>().as_mut() = Some(output) };
        }
    }

    unsafe fn free(space: &Space) {
        // SAFETY: by this function's contract; an allocation's layout is the one it was made with.
        unsafe {
            let stage = core::ptr::from_mut(Self::stage(space));
            stage.drop_in_place();
            if !Self::INLINE {
                dealloc(stage.cast(), Layout::new::<Stage<F>>());
            }
        }
    }
}
