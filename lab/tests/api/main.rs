//! The lab's API server as its clients see it: plain HTTP, kube-rs, the real kubectl.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http;
#[cfg(test)]
mod kube_client;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod support;
