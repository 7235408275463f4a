//! What the engine should contain: the batches in order, and the state after any prefix of them.

use std::collections::BTreeMap;

/// A key in a tree, as the model sees it: index of the tree and user key.
pub type ModelKey = (usize, Vec<u8>);
/// Rows of all trees.
pub type State = BTreeMap<ModelKey, Vec<u8>>;

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// Set a key.
    Put(ModelKey, Vec<u8>),
    /// Remove a key.
    Delete(ModelKey),
    /// Remove a range of one tree's keys: start inclusive, end exclusive.
    DeleteRange(usize, Vec<u8>, Vec<u8>),
    /// Drop a tree. Always a batch of its own, and the only kind of batch that does not set its number.
    DropTree(usize),
}

/// All batches so far, and the state after them.
#[derive(Clone, Default)]
pub struct Model {
    batches: Vec<Vec<Op>>,
    state: State,
    /// Batches that must survive the death of the process, and of the machine.
    kept_by_process: usize,
    kept_by_machine: usize,
    /// The batch of this number is not seen now and may be there after the next open.
    hidden: Option<usize>,
}

fn apply(state: &mut State, batch: &[Op]) {
    for op in batch {
        match op {
            Op::Put(key, value) => {
                state.insert(key.clone(), value.clone());
            }
            Op::Delete(key) => {
                state.remove(key);
            }
            Op::DeleteRange(tree, start, end) => {
                let doomed: Vec<_> =
                    state.range((*tree, start.clone())..(*tree, end.clone())).map(|(key, _)| key.clone()).collect();
                for key in doomed {
                    state.remove(&key);
                }
            }
            Op::DropTree(dropped) => state.retain(|(tree, _), _| tree != dropped),
        }
    }
}

impl Model {
    /// Number of the batch that comes next.
    #[must_use]
    pub fn next_number(&self) -> usize {
        self.batches.len() + 1
    }

    /// Adds a batch that was sent; whether it took effect may be unknown.
    pub fn send(&mut self, batch: Vec<Op>) {
        apply(&mut self.state, &batch);
        self.batches.push(batch);
    }

    /// The last batch turned out not to have taken effect: it was refused.
    pub fn withdraw(&mut self) {
        assert!(self.kept_by_process < self.batches.len(), "the last batch was acknowledged");
        self.batches.pop();
        self.state = self.state_after(self.hidden.map_or(self.batches.len(), |hidden| hidden - 1));
    }

    /// The last batch does not show, and may be there after the next open. Nothing can be written until then.
    pub fn hide_last(&mut self) {
        self.hidden = Some(self.batches.len());
        self.state = self.state_after(self.batches.len() - 1);
    }

    /// Whether a batch is hidden.
    #[must_use]
    pub const fn is_last_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    /// The last batch was acknowledged.
    pub fn acknowledge(&mut self, durable: bool) {
        self.kept_by_process = self.batches.len();
        if durable {
            self.kept_by_machine = self.batches.len();
        }
    }

    /// Everything acknowledged so far was made durable.
    pub fn synced(&mut self) {
        self.kept_by_machine = self.kept_by_process;
    }

    /// The state after all batches.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The state after the first `count` batches.
    #[must_use]
    pub fn state_after(&self, count: usize) -> State {
        let mut state = State::new();
        for batch in &self.batches[..count] {
            apply(&mut state, batch);
        }
        state
    }

    /// How many batches a recovered engine must hold at least and at most.
    #[must_use]
    pub const fn expected(&self, machine_died: bool) -> (usize, usize) {
        let least = if machine_died { self.kept_by_machine } else { self.kept_by_process };
        (least, self.batches.len())
    }

    /// The counts of batches that an engine may hold in which the last number set is `number`: a dropped tree sets none.
    pub fn counts_of(&self, number: usize) -> impl Iterator<Item = usize> + use<> {
        let bare = |batch: &&Vec<Op>| matches!(batch[..], [Op::DropTree(_)]);
        let drops = self.batches.iter().skip(number).take_while(bare).count();
        number..=number + drops
    }

    /// Forgets the batches after the first `count`: they did not survive. What survived counts as durable from now on.
    pub fn cut(&mut self, count: usize) {
        self.batches.truncate(count);
        self.hidden = None;
        self.state = self.state_after(count);
        self.kept_by_process = count;
        self.kept_by_machine = count;
    }
}
