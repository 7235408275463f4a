//! The queues against an oracle that knows nothing but the words of the rule.

use proptest::prelude::*;

use super::*;

const OBJECT: LockObject = LockObject(1);

/// One object, as lists: what is held, and what waits, in order.
#[derive(Default)]
struct Naive {
    held: Vec<(u64, LockMode)>,
    waiting: Vec<(u64, LockMode)>,
}

impl Naive {
    fn excluded(&self, who: u64, mode: LockMode, before: usize) -> bool {
        let clash = |&(other, theirs): &(u64, LockMode)| other != who && mode.conflicts().has(theirs);
        self.held.iter().any(clash) || self.waiting[..before].iter().any(clash)
    }

    fn request(&mut self, who: u64, mode: LockMode) -> Outcome {
        if self.held.contains(&(who, mode)) {
            return Outcome::Held;
        }
        let mine: Vec<_> = self.held.iter().filter(|h| h.0 == who).map(|h| h.1).collect();
        let waits_for_me = |w: &(u64, LockMode)| mine.iter().any(|&m| w.1.conflicts().has(m));
        let place = self.waiting.iter().position(waits_for_me).unwrap_or(self.waiting.len());
        if self.excluded(who, mode, place) {
            self.waiting.insert(place, (who, mode));
            return Outcome::Queued;
        }
        self.held.push((who, mode));
        Outcome::Granted
    }

    fn leave(&mut self, who: u64) -> Vec<LocalTxn> {
        self.held.retain(|h| h.0 != who);
        self.waiting.retain(|w| w.0 != who);
        let mut woken = Vec::new();
        // One at a time, always the first that can go, until nobody can.
        while let Some(at) = (0..self.waiting.len()).find(|&at| {
            let (who, mode) = self.waiting[at];
            !self.excluded(who, mode, at)
        }) {
            let request = self.waiting.remove(at);
            self.held.push(request);
            woken.push(LocalTxn(request.0));
        }
        woken
    }
}

fn all_of(modes: Modes) -> Vec<LockMode> {
    modes.iter().collect()
}

proptest! {
    #[test]
    fn queues_do_what_the_rule_says(steps in proptest::collection::vec((0u64..6, 0usize..8, 0u8..4), 1..80)) {
        let (mut queues, mut naive) = (LockQueues::default(), Naive::default());
        for (who, mode, action) in steps {
            let mode = LockMode::ALL[mode];
            let local = LocalTxn(who);
            let waits = naive.waiting.iter().any(|w| w.0 == who);
            if action > 0 && !waits {
                prop_assert_eq!(queues.would_grant(local, OBJECT, mode), queues.obstacles(local, OBJECT, mode).is_empty()
                    || queues.held(local, OBJECT).has(mode));
                prop_assert_eq!(queues.request(local, OBJECT, mode), naive.request(who, mode));
            } else if action == 0 {
                let mut woken = Vec::new();
                queues.cancel(local, OBJECT, &mut woken);
                queues.release(local, OBJECT, Modes(0xFF), &mut woken);
                let mut want = naive.leave(who);
                woken.sort_unstable();
                want.sort_unstable();
                prop_assert_eq!(woken, want);
            }
            queues.check();
            for who in 0..6 {
                let mut held: Vec<_> = naive.held.iter().filter(|h| h.0 == who).map(|h| h.1).collect();
                held.sort_unstable();
                prop_assert_eq!(all_of(queues.held(LocalTxn(who), OBJECT)), held);
                let waits = naive.waiting.iter().any(|w| w.0 == who);
                prop_assert_eq!(!queues.blockers(LocalTxn(who), OBJECT).is_empty(), waits);
            }
        }
    }
}

#[test]
fn a_weak_lock_does_not_overtake_a_strong_one_that_waits() {
    let mut queues = LockQueues::default();
    let [reader, writer, late] = [1, 2, 3].map(LocalTxn);
    assert_eq!(queues.request(reader, OBJECT, LockMode::AccessShare), Outcome::Granted);
    assert_eq!(queues.request(writer, OBJECT, LockMode::AccessExclusive), Outcome::Queued);
    assert_eq!(queues.request(late, OBJECT, LockMode::AccessShare), Outcome::Queued);
    assert_eq!(queues.blockers(late, OBJECT), [Blocker { who: writer, by_order: true }]);
    // But the reader itself may take more: the writer waits for it in any case.
    assert_eq!(queues.request(reader, OBJECT, LockMode::RowExclusive), Outcome::Granted);
    let mut woken = Vec::new();
    queues.release(reader, OBJECT, Modes(0xFF), &mut woken);
    assert_eq!(woken, [writer]);
    queues.release(writer, OBJECT, Modes(0xFF), &mut woken);
    assert_eq!(woken, [writer, late]);
    queues.release(late, OBJECT, Modes(0xFF), &mut woken);
    assert!(queues.objects.is_empty());
}

#[test]
fn an_order_can_be_changed_and_put_back() {
    let mut queues = LockQueues::default();
    let [holder, first, second] = [1, 2, 3].map(LocalTxn);
    queues.request(holder, OBJECT, LockMode::Share);
    queues.request(first, OBJECT, LockMode::RowExclusive);
    queues.request(second, OBJECT, LockMode::Share);
    let order = queues.move_before(second, first, OBJECT).unwrap();
    assert!(queues.blockers(second, OBJECT).is_empty());
    queues.restore_order(order);
    assert_eq!(queues.blockers(second, OBJECT), [Blocker { who: first, by_order: true }]);
    assert!(queues.move_before(first, second, OBJECT).is_none(), "it stands before already");
}
