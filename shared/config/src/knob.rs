//! A knob: the name of a variable tied to the type of its value.

use std::marker::PhantomData;

use crate::{ConfigError, Lookup, Value};

/// The components that read configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The node proxy.
    Ztunnel,
    /// The control plane.
    ControlPlane,
    /// The node agent.
    Node,
}

impl Component {
    /// The name that the documentation uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ztunnel => "ztunnel",
            Self::ControlPlane => "controlplane",
            Self::Node => "node",
        }
    }
}

/// One variable whose value has type `T`.
///
/// The default is text, as a user would write it; an empty default of a `Knob<Option<_>>` means absent.
#[derive(Debug)]
pub struct Knob<T> {
    /// The variable's name.
    pub name: &'static str,
    /// The default as text.
    pub default: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T: Value> Knob<T> {
    /// Ties a name to a type.
    #[must_use]
    pub const fn new(name: &'static str, default: &'static str) -> Self {
        Self { name, default, value: PhantomData }
    }

    /// The value in force: what the variable holds, otherwise the default.
    ///
    /// # Errors
    /// When the text is not a value of type `T`.
    pub fn read(&self, lookup: &Lookup) -> Result<T, ConfigError> {
        let text = lookup.variable(self.name).unwrap_or(self.default);
        T::parse(text.trim()).map_err(|expected| ConfigError::malformed(self.name, text, expected))
    }
}

/// A row of the table, for documentation.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The heading under which the knob is documented.
    pub section: &'static str,
    /// The variable's name.
    pub name: &'static str,
    /// The kind of value.
    pub kind: &'static str,
    /// The unit, where the kind does not carry it.
    pub unit: &'static str,
    /// The default as text.
    pub default: &'static str,
    /// What it does, in sentences.
    pub doc: &'static str,
    /// Who reads it.
    pub components: &'static [Component],
}
