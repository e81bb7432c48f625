//! Who provides the site of a comparison, and clears it away: a lab of its own, or a cluster of the user's.

use anyhow::Result;
use bench::Settings;
use bench::mode::Mode;

use super::arguments::BenchArgs;
use super::cluster::Cluster;
use super::lab::Lab;
use super::site::Site;

/// Provides a site.
pub(crate) enum Ground {
    Lab(Lab),
    Cluster(Cluster),
}

impl Ground {
    /// Starts what has to be started before there is a runtime: a lab's namespaces are entered by a copy of this
    /// process, which must not have other threads.
    ///
    /// # Errors
    /// The lab cannot start.
    pub(crate) fn open(args: &BenchArgs, settings: &Settings) -> Result<Self> {
        let has_mesh = settings.modes.iter().any(|mode| is_ambient(*mode));
        Ok(match args.cluster() {
            Some(named) => Self::Cluster(Cluster::new(named, has_mesh)),
            None => {
                let has_apart = settings.modes.iter().any(|mode| !mode.proxy_settings().is_empty());
                Self::Lab(Lab::start(args.runtime_directory.as_deref(), has_mesh, has_apart)?)
            }
        })
    }

    /// Waits until pods can be made.
    ///
    /// # Errors
    /// Why they cannot.
    pub(crate) async fn ready(&mut self, progress: &mut (dyn FnMut(&str) + Send)) -> Result<Site> {
        match self {
            Self::Lab(lab) => lab.ready(progress).await,
            Self::Cluster(cluster) => cluster.ready(progress).await,
        }
    }

    /// What closing does.
    pub(crate) fn closing(&self) -> String {
        match self {
            Self::Lab(_) => "ending the lab".to_owned(),
            Self::Cluster(cluster) => cluster.closing(),
        }
    }

    /// Clears everything away, and waits until it is gone.
    ///
    /// # Errors
    /// What is left, and what to do about it.
    pub(crate) async fn close(&mut self) -> Result<()> {
        match self {
            Self::Lab(lab) => lab.stop().await,
            Self::Cluster(cluster) => cluster.close().await,
        }
    }
}

fn is_ambient(mode: Mode) -> bool {
    matches!(mode, Mode::AmbientL4 | Mode::AmbientL4SameNode | Mode::AmbientL4Cold | Mode::AmbientL7)
}
