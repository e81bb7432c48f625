//! The generator against servers on loopback: the project's own, and ones that follow a script.

#[cfg(test)]
mod loopback {
    mod agent;
    mod kinds;
    mod relay;
    mod scripted;
    mod support;
    mod truth;
}
