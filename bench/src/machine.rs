//! Where it was measured.

use serde::Serialize;

/// The machine, as far as it decides the numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// The processor's name for itself.
    pub processor: String,
    /// How many of them this process may use.
    pub cpus: usize,
    /// Memory, in MB.
    pub memory_mb: u64,
    /// Whether the processor encrypts AES by itself.
    pub aes: bool,
    /// Virtual machine or not, as far as the processor says.
    pub virtual_machine: bool,
}

impl Machine {
    /// This one. What cannot be read stays empty.
    #[must_use]
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        Self::described(read("/proc/sys/kernel/osrelease").trim(), &read("/proc/cpuinfo"), &read("/proc/meminfo"), cpus)
    }

    fn described(kernel: &str, cpuinfo: &str, meminfo: &str, cpus: usize) -> Self {
        let value = |text: &str, name: &str| -> Option<String> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let flags = value(cpuinfo, "flags").or_else(|| value(cpuinfo, "Features")).unwrap_or_default();
        let has = |wanted: &str| flags.split_whitespace().any(|flag| flag == wanted);
        let memory = value(meminfo, "MemTotal").unwrap_or_default();
        let kib: u64 = memory.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or_default();
        Self {
            kernel: kernel.to_owned(),
            processor: value(cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus,
            memory_mb: kib / 1024,
            aes: has("aes"),
            virtual_machine: has("hypervisor"),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let aes = if self.aes { "AES instructions" } else { "no AES instructions" };
        let kind = if self.virtual_machine { ", virtual machine" } else { "" };
        let Self { kernel, processor, cpus, memory_mb, .. } = self;
        write!(f, "kernel {kernel}, {cpus} processors ({processor}, {aes}{kind}), {memory_mb} MB of memory")
    }
}

/// A cluster, as far as its API tells what decides the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Of Kubernetes.
    pub version: String,
    /// Clients on the first; servers on the second, if there is one.
    pub nodes: Vec<ClusterNode>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Of the processor, as in `amd64`.
    pub architecture: String,
    /// Processors, as Kubernetes writes them.
    pub cpus: String,
    /// Memory, as Kubernetes writes it.
    pub memory: String,
}

impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kubernetes {}", self.version)?;
        for ClusterNode { name, kernel, architecture, cpus, memory } in &self.nodes {
            write!(f, "; node {name}: kernel {kernel}, {cpus} processors ({architecture}), {memory} of memory")?;
        }
        Ok(())
    }
}

/// Where it was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ground {
    /// A lab on this machine.
    Lab(Machine),
    /// A cluster.
    Cluster(Cluster),
}

impl std::fmt::Display for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lab(machine) => machine.fmt(f),
            Self::Cluster(cluster) => cluster.fmt(f),
        }
    }
}

impl Serialize for Ground {
    /// Two fields, of which one is null.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let (machine, cluster) = match self {
            Self::Lab(machine) => (Some(machine), None),
            Self::Cluster(cluster) => (None, Some(cluster)),
        };
        let mut fields = serializer.serialize_struct("Ground", 2)?;
        fields.serialize_field("machine", &machine)?;
        fields.serialize_field("cluster", &cluster)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_is() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu aes hypervisor avx2\n";
        let machine = Machine::described("6.1.0", cpuinfo, "MemTotal:        8000000 kB\nMemFree: 1 kB\n", 2);
        assert_eq!(
            machine.to_string(),
            "kernel 6.1.0, 2 processors (Some CPU @ 3 GHz, AES instructions, virtual machine), 7812 MB of memory"
        );
        assert!(!Machine::this().kernel.is_empty());
    }
}
