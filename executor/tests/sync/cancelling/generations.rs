//! Changes that CPUs pass in their own time.

use std::cell::RefCell;

use executor::{RawSpinLock, sync::Generations};

use crate::{
    exploring::explore,
    polling::{Id, Tasks},
};

type Shared = Generations<RawSpinLock>;

/// Who waits for which generation.
type Waiting = RefCell<Vec<(Id, u64)>>;

/// Waits for whatever has been changed when it begins.
async fn wait(generations: &Shared, waiting: &Waiting, id: Id) {
    struct Stay<'a>(&'a Waiting, Id);
    impl Drop for Stay<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().retain(|waiting| waiting.0 != self.1);
        }
    }
    let generation = generations.current();
    waiting.borrow_mut().push((id, generation));
    let _stay = Stay(waiting, id);
    generations.wait(generation).await;
    assert!(generations.have_passed(generation), "it did not wait");
}

fn checkpoint(generations: &Shared, cpu: u32) {
    if generations.is_behind(cpu) {
        generations.pass(cpu, generations.current());
    }
}

/// Whoever waits for a generation that all have passed is woken, whoever else came, went or gave up.
#[test]
fn who_waits_for_a_generation_hears_of_it() {
    explore(7, |schedule| {
        let (generations, waiting) = (Shared::new(), Waiting::default());
        let (generations, waiting) = (&generations, &waiting);
        generations.join(0);
        generations.join(1);
        let mut tasks = Tasks::new();
        for _ in 0..3 {
            tasks.spawn(|id| wait(generations, waiting, id));
        }
        let change = || {
            generations.advance(0);
        };
        let pass = || checkpoint(generations, 1);
        let come = || generations.join(2);
        let pass_late = || checkpoint(generations, 2);
        let leave = || generations.leave(1);
        let actions: [(_, _, &dyn Fn()); 5] = [
            ("change", 2, &change),
            ("pass", 2, &pass),
            ("come", 1, &come),
            ("pass late", 1, &pass_late),
            ("leave", 1, &leave),
        ];
        schedule.play(&mut tasks, &actions, |tasks| {
            let waiting = waiting.borrow();
            let mut due = waiting
                .iter()
                .filter(|(_, generation)| generations.have_passed(*generation));
            assert!(due.all(|(id, _)| tasks.is_woken(*id)), "a wake was lost");
        });
    });
}
