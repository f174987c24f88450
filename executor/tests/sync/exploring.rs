//! Every schedule of a few futures, up to a bound on its steps.

use std::{cell::RefCell, future::Future, thread::panicking};

use super::polling::{Id, Tasks};

/// What a schedule may do besides polling and dropping: its name, how often at most, and what it is.
pub type Action<'a> = (&'static str, usize, &'a dyn Fn());

/// A step of a schedule.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// With another waker if nobody woke it.
    Poll(Id),
    Drop(Id),
    Act(&'static str),
}

/// One of the schedules: which of the steps that there are is taken, each time.
pub struct Schedule {
    most: usize,
    /// Which of how many. Those that were chosen before are chosen again, the rest are the first.
    choices: Vec<(usize, usize)>,
    steps: Vec<Step>,
}

/// Runs `scenario`, which makes everything anew, with every schedule of at most so many steps.
pub fn explore(most: usize, scenario: impl Fn(&mut Schedule)) {
    let mut schedule = Schedule {
        most,
        choices: Vec::new(),
        steps: Vec::new(),
    };
    let mut explored = 0;
    loop {
        schedule.steps.clear();
        scenario(&mut schedule);
        explored += 1;
        if !schedule.advance() {
            break;
        }
    }
    println!("{explored} schedules of at most {most} steps");
}

impl Schedule {
    /// The next schedule; false if this was the last one.
    fn advance(&mut self) -> bool {
        while let Some((chosen, of)) = self.choices.pop() {
            if chosen + 1 < of {
                self.choices.push((chosen + 1, of));
                return true;
            }
        }
        false
    }

    /// The next step, one of these; none if the schedule ends here.
    fn choose(&mut self, steps: &[Step]) -> Option<Step> {
        let at = self.steps.len();
        if at == self.most {
            return None;
        }
        let of = steps.len() + 1;
        if at == self.choices.len() {
            self.choices.push((0, of));
        }
        let (chosen, before) = self.choices[at];
        assert_eq!(of, before, "the scenario does not repeat");
        let step = *steps.get(chosen.checked_sub(1)?)?;
        self.steps.push(step);
        Some(step)
    }

    /// Plays the schedule, then polls whoever is woken until nobody is, with a look after each step.
    pub fn play<T>(&mut self, tasks: &mut Tasks<'_, T>, actions: &[Action<'_>], look: impl Fn(&Tasks<'_, T>)) {
        let mut left: Vec<usize> = actions.iter().map(|action| action.1).collect();
        loop {
            let mut steps: Vec<Step> = tasks.ids().flat_map(|id| [Step::Poll(id), Step::Drop(id)]).collect();
            let more = actions.iter().zip(&left).filter(|(_, left)| **left > 0);
            steps.extend(more.map(|(action, _)| Step::Act(action.0)));
            match self.choose(&steps) {
                None => break,
                Some(Step::Poll(id)) if tasks.is_woken(id) => drop(tasks.poll(id)),
                Some(Step::Poll(id)) => drop(tasks.poll_anew(id)),
                Some(Step::Drop(id)) => tasks.drop(id),
                Some(Step::Act(name)) => {
                    let which = actions.iter().position(|action| action.0 == name);
                    let which = which.expect("one of the actions");
                    left[which] -= 1;
                    actions[which].2();
                }
            }
            look(tasks);
        }
        while let Some(id) = tasks.ready(0) {
            drop(tasks.poll(id));
            look(tasks);
        }
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        if panicking() {
            println!("after {:?}", self.steps);
        }
    }
}

/// Who waits, in order of arrival.
#[derive(Default)]
pub struct Line {
    waiting: RefCell<Vec<Id>>,
    /// Who was still waiting when somebody behind was served.
    passed: RefCell<Vec<Id>>,
}

impl Line {
    /// Stands in line from the first poll until `future` is ready or dropped.
    pub async fn wait<T>(&self, id: Id, future: impl Future<Output = T>) -> T {
        struct Place<'a>(&'a Line, Id);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.waiting.borrow_mut().retain(|id| *id != self.1);
            }
        }
        self.waiting.borrow_mut().push(id);
        let _place = Place(self, id);
        let value = future.await;
        let before = self.waiting.borrow();
        let before = before.iter().take_while(|other| **other != id);
        self.passed.borrow_mut().extend(before);
        value
    }

    /// Who waits and was woken, so was given what it waits for; and who waits on.
    pub fn split<T>(&self, tasks: &Tasks<'_, T>) -> (Vec<Id>, Vec<Id>) {
        self.waiting.borrow().iter().partition(|id| tasks.is_woken(**id))
    }

    /// After a step: nobody was overtaken, neither by who was served nor by who was given what he waits for.
    pub fn look<T>(&self, tasks: &Tasks<'_, T>) {
        let mut passed = self.passed.borrow_mut();
        assert!(
            passed.drain(..).all(|id| tasks.is_woken(id)),
            "somebody behind was served"
        );
        let (given, waiting) = self.split(tasks);
        assert_eq!(
            [given, waiting].concat(),
            *self.waiting.borrow(),
            "somebody behind was given it"
        );
    }
}
