//! Something for each unit of each task at each coordinator, found by numbers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tally_protocol::id::TaskId;

use crate::happening::Unit;
use crate::peer::Peer;
use crate::reference::Reference;

/// A table of all units that were ever looked at.
#[derive(Debug)]
pub(super) struct UnitTable<T>(BTreeMap<(Peer, TaskId), Vec<T>>);

impl<T> Default for UnitTable<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone + Default> UnitTable<T> {
    /// Returns what is known of a unit; none if the reference knows no such unit.
    pub(super) fn get(
        &mut self,
        reference: &Reference,
        coordinator: Peer,
        unit: Unit,
    ) -> Option<&mut T> {
        let units = match self.0.entry((coordinator, unit.task)) {
            Entry::Occupied(units) => units.into_mut(),
            Entry::Vacant(vacant) => {
                let count = reference.tasks().get(&unit.task)?.units;
                vacant.insert(vec![T::default(); count as usize])
            }
        };
        units.get_mut(unit.unit as usize)
    }

    /// Returns what is known of all units at a coordinator.
    pub(super) fn all_at(&mut self, coordinator: Peer) -> impl Iterator<Item = &mut T> {
        let tasks = self.0.iter_mut();
        let of = tasks.filter(move |((peer, _), _)| *peer == coordinator);
        of.flat_map(|(_, units)| units)
    }

    /// Returns what is known of all units of a task.
    pub(super) fn all(&self, coordinator: Peer, task: &TaskId) -> &[T] {
        self.0.get(&(coordinator, *task)).map_or(&[], Vec::as_slice)
    }
}
