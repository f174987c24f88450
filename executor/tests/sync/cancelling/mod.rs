//! Cancelling at every point: all schedules of a few polls, drops and actions, on a few futures over one primitive.
//!
//! Once a schedule has been played only who is woken is polled, so that a lost wake is a future that never ends. What
//! only threads can see is left to the models in `tests/loom`.
//!
//! That these can fail was tried by breaking the code:
//!
//! | broken | tests that fail |
//! |---|---|
//! | a dropped `Acquire` does not give back what it was given | `a_semaphore_keeps_its_permits` and ten more |
//! | a dropped `Acquire` does not serve who stood behind | `a_semaphore_keeps_its_permits` and seven more |
//! | `Acquire` keeps the first waker | `a_semaphore_keeps_its_permits` and eleven more |
//! | a semaphore lets who comes overtake who waits | `a_rw_lock_is_passed_on`, `a_semaphore_keeps_its_permits` |
//! | a semaphore that closes gives permits | `a_semaphore_that_closes_tells_everybody` |
//! | any number of nudges is kept | `a_nudge_is_passed_on` |
//! | a nudge that was used comes back | `a_nudge_is_passed_on` |
//! | a dropped `Wait` does not pass its wake on | `a_wake_of_ones_own_is_passed_on` and three more |
//! | a dropped `Wait` passes a wake for all on | `a_wake_of_ones_own_is_passed_on` |
//! | a dropped `Wait` passes its wake on to any key | `a_wake_is_passed_on_under_its_key` and one more |
//! | `Wait` keeps the first waker | `a_wake_of_ones_own_is_passed_on` and seven more |
//! | `Wait::cancel` keeps a wake | `an_attempt_is_made_by_somebody` |
//! | `wait_until` does not look once it is registered | `an_attempt_is_made_by_somebody` |
//! | `requeue` moves to the front, or without changing the key | `a_wake_is_passed_on_to_where_waiters_moved` |
//! | `Event::set` wakes one | `an_event_lets_everybody_through` |
//! | `OnceCell` does not look again once it has the permit | `a_once_cell_is_filled_by_who_is_left` |
//! | `OnceCell` is filled and wakes nobody | `a_once_cell_is_filled_by_who_is_left` |
//! | `OnceCell` keeps the permit if its future fails | `a_once_cell_is_filled_by_who_is_left` |
//! | a `Feed` that changes wakes one, or ends silently | `a_watcher_misses_no_last_value` and one more |
//! | a broadcast's receiver counts a message before it has it | `a_broadcast_misses_nobody` |
//! | a place promised to a dropped send stays promised | `a_channel_loses_nothing` |
//! | a dropped send does not give its place on | `a_channel_loses_nothing` |
//! | a send, or the receiver, keeps the first waker | `a_channel_loses_nothing` |
//! | the last sender goes silently | `a_channel_loses_nothing` |
//! | senders that wait are not told that the receiver goes | `a_channel_that_closes_leaves_nothing_behind` |
//! | what is in the hand is left there by a receiver that goes | `a_channel_that_closes_leaves_nothing_behind` |
//! | `IrqCell` forgets signals when it begins to wait | `an_interrupt_is_heard` |
//! | a dropped `Sleep` stays in the wheel | `a_sleep_ends_in_time`, `a_wait_with_a_deadline_gives_up` |
//! | `Sleep` keeps the first foreign waker | `a_sleep_ends_in_time`, `a_wait_with_a_deadline_gives_up` |
//! | `Sleep` keeps the number of the first waker | `a_sleep_ends_in_time`, `a_wait_with_a_deadline_gives_up` |
//! | `Sleep::reset` leaves its entry | `a_sleep_ends_in_time` |
//! | `JoinHandle` keeps the first foreign waker, or the number of the first | `a_join_is_told_the_end` |
//! | a dropped `JoinHandle` keeps the slot | `a_join_is_told_the_end` |
//! | `Generations::leave`, or `pass`, wakes nobody | `who_waits_for_a_generation_hears_of_it` |
//! | a wait for a generation is over with its wake | `who_waits_for_a_generation_hears_of_it` |

mod channels;
mod generations;
mod locks;
mod queues;
mod time;

use std::{future::Future, rc::Rc};

use executor::yield_now;

/// Counts what is held.
type Held = Rc<()>;

fn count(held: &Held) -> usize {
    Rc::strong_count(held) - 1
}

/// Takes something of which `parts` count, in its turn, and holds it for a while.
async fn hold<G>(take: impl Future<Output = G>, held: &Held, parts: usize) {
    let _guard = take.await;
    let _marks = vec![held.clone(); parts];
    yield_now().await;
}
