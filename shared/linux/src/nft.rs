//! Packet filter rules as data: a model of what the mesh uses of nf_tables, printed as `nft list ruleset` would print
//! it and sent to the kernel by our own netlink encoder, as one batch that takes effect whole or not at all.
//!
//! Everything here works on the calling thread's network namespace; see [`NetNs::run`](crate::NetNs::run).
//! The encoding is that of `linux/netfilter/nf_tables.h`; the text is that of
//! [nft(8)](https://www.netfilter.org/projects/nftables/manpage.html).

mod batch;
mod display;
mod expression;
mod model;
mod read;
mod register;
mod transaction;
mod wire;

pub use model::{
    Base, Chain, ChainKind, CtState, Element, Family, Hook, Policy, Relation, Rule, Set, Statement, Table, TcpFlags,
    Transport,
};

use std::io;
use std::net::IpAddr;

use crate::error::Named;

/// One step of a batch. What a change deletes may be absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts `Table` in the place of the table of that family and name, if there is one; its sets start anew.
    ///
    /// Connections that the old rules translated stay translated when a rule of the batch still needs connection
    /// tracking.
    ReplaceTable(Table),
    /// Takes a table away with all that is in it.
    DeleteTable {
        /// The table's family.
        family: Family,
        /// The table's name.
        name: String,
    },
    /// Gives a chain of an existing table other rules; makes the chain if the table has none of that name.
    /// A chain that exists keeps its hook and priority, so [`Chain::base`] must be the same.
    ReplaceChain {
        /// The table's family.
        family: Family,
        /// The table's name.
        table: String,
        /// The chain with its new rules.
        chain: Chain,
    },
    /// Puts elements into a set; an element that is there already gets the new comment.
    AddElements {
        /// The table's family.
        family: Family,
        /// The table's name.
        table: String,
        /// The set's name.
        set: String,
        /// What to put in.
        elements: Vec<Element>,
    },
    /// Takes elements out of a set; the set and its table may be absent.
    RemoveElements {
        /// The table's family.
        family: Family,
        /// The table's name.
        table: String,
        /// The set's name.
        set: String,
        /// What to take out.
        elements: Vec<IpAddr>,
    },
}

/// A batch that the kernel refused: the first step that failed. Nothing of the batch took effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{change}: {}{}", io::Error::from_raw_os_error(*errno), explanation.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
pub struct ChangeError {
    /// The step: for a rule, its chain, text and comment.
    pub change: String,
    /// The kernel's error number.
    pub errno: i32,
    /// What the kernel said about it in words, if anything.
    pub explanation: Option<String>,
}

/// A chain as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveChain {
    /// The chain's name.
    pub name: String,
    /// Where it is hooked in, if it is a base chain.
    pub hook: Option<(Hook, i32)>,
    /// The comment of each rule in order; `None` for a rule without one.
    pub rules: Vec<Option<String>>,
}

/// Makes all `changes` in the current network namespace, in order, in one batch: all or nothing.
///
/// # Errors
/// An [`io::Error`] that holds a [`ChangeError`] naming the step that failed; `InvalidInput` for names and comments
/// that do not fit (comments hold 127 bytes).
pub fn apply(changes: &[Change]) -> io::Result<()> {
    transaction::apply(changes)
}

/// The tables of the current network namespace.
///
/// # Errors
/// The kernel's.
pub fn tables() -> io::Result<Vec<(Family, String)>> {
    read::tables().named(|| "listing tables".into())
}

/// Whether the table exists.
///
/// # Errors
/// The kernel's.
pub fn has_table(family: Family, name: &str) -> io::Result<bool> {
    Ok(tables()?.iter().any(|(found_family, found)| *found_family == family && found == name))
}

/// The chains of a table with the comments of their rules: enough to see whether somebody took rules away. Empty if
/// the table does not exist.
///
/// # Errors
/// The kernel's.
pub fn chains(family: Family, table: &str) -> io::Result<Vec<LiveChain>> {
    read::chains(family, table).named(|| format!("listing chains of table {family} {table}"))
}

/// The elements of a set, sorted by address.
///
/// # Errors
/// `NotFound` when the set or its table does not exist.
pub fn set_elements(family: Family, table: &str, set: &str) -> io::Result<Vec<Element>> {
    read::set_elements(family, table, set).named(|| format!("listing elements of set {set} of table {family} {table}"))
}
