//! Errors that say which operation failed and on what.

use std::io;

/// An operation that the kernel refused: what was tried, and why it failed.
///
/// It travels inside an [`io::Error`] of the same kind, so that callers who only look at the kind need not know it.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {source}")]
pub struct OperationError {
    /// What was tried, for example `adding address 10.0.0.1/24 to eth0`.
    pub operation: String,
    /// What the kernel said.
    pub source: io::Error,
}

/// The errno at the root of `error`, through any number of [`OperationError`]s; `None` where no system call failed.
pub fn errno(error: &io::Error) -> Option<i32> {
    if let Some(code) = error.raw_os_error() {
        return Some(code);
    }
    let inner = error.get_ref()?;
    if let Some(operation) = inner.downcast_ref::<OperationError>() {
        return errno(&operation.source);
    }
    inner.downcast_ref::<crate::nft::ChangeError>().map(|change| change.errno)
}

/// Whether `errno` says that this kernel or namespace has no IPv6.
pub fn is_no_ipv6(errno: i32) -> bool {
    matches!(errno, libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
}

/// Names the operation in an error.
pub(crate) trait Named<T> {
    /// Wraps the error, if there is one, with the text that `operation` makes.
    fn named(self, operation: impl FnOnce() -> String) -> io::Result<T>;
}

impl<T, E: Into<io::Error>> Named<T> for Result<T, E> {
    fn named(self, operation: impl FnOnce() -> String) -> io::Result<T> {
        self.map_err(|error| {
            let source = error.into();
            io::Error::new(source.kind(), OperationError { operation: operation(), source })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errno_survives_being_named_twice() {
        let refused: io::Result<()> = Err(io::Error::from_raw_os_error(libc::EPERM));
        let error = refused.named(|| "inner".into()).named(|| "outer".into()).unwrap_err();
        assert_eq!(errno(&error), Some(libc::EPERM));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().starts_with("outer: inner: "), "{error}");
    }

    #[test]
    fn an_error_of_our_own_has_no_errno() {
        assert_eq!(errno(&io::Error::other("odd")), None);
    }
}
