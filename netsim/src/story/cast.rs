//! What nodes are called in a story.

use crate::peer::Peer;

/// Which numbers have which role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    /// Number of coordinators, whose numbers begin at 0; bootstrap nodes follow.
    pub coordinators: u32,
    /// The first customer.
    pub first_customer: u32,
    /// The first terminal.
    pub first_terminal: u32,
    /// The first app server.
    pub first_app_server: u32,
    /// The first owner.
    pub first_owner: u32,
}

impl Cast {
    /// Returns role and number of a node.
    #[must_use]
    pub fn name(&self, node: Peer) -> String {
        let Peer(number) = node;
        let role = if number < self.coordinators {
            "coordinator"
        } else if number < self.first_customer {
            "bootstrap node"
        } else if number < self.first_terminal {
            "customer"
        } else if number < self.first_app_server {
            "terminal"
        } else if number < self.first_owner {
            "app server"
        } else {
            "owner"
        };
        format!("{role} {number}")
    }

    /// Returns the names of nodes; "nobody" if there are none.
    pub(super) fn names(&self, nodes: &[Peer]) -> String {
        if nodes.is_empty() {
            return "nobody".to_owned();
        }
        let names: Vec<String> = nodes.iter().map(|node| self.name(*node)).collect();
        names.join(", ")
    }
}
