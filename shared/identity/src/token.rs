//! The token that proves who is asking.

use std::path::PathBuf;
use std::{fmt, io};

/// Where the token comes from.
///
/// `Debug` never shows a token.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file, read anew for each call: kubelets renew projected tokens in place.
    File(PathBuf),
    /// The token itself.
    Literal(String),
    /// No token; the authority must know the caller by other means.
    None,
}

impl TokenSource {
    /// The token of this moment, without surrounding space.
    ///
    /// # Errors
    /// What the file system says, or `InvalidData` for an empty file.
    pub async fn read(&self) -> io::Result<Option<String>> {
        let text = match self {
            Self::File(path) => {
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                tokio::fs::read_to_string(path).await.map_err(named)?
            }
            Self::Literal(token) => token.clone(),
            Self::None => return Ok(None),
        };
        let token = text.trim();
        if token.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{self:?} is empty")));
        }
        Ok(Some(token.to_owned()))
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Literal(_) => f.write_str("literal token"),
            Self::None => f.write_str("no token"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_renewed_file_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = TokenSource::File(path.clone());
        assert_eq!(source.read().await.unwrap_err().kind(), io::ErrorKind::NotFound);
        for token in ["first", "second"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(source.read().await.unwrap().as_deref(), Some(token));
        }
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(source.read().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_literal_token_is_not_shown() {
        assert!(!format!("{:?}", TokenSource::Literal("secret".into())).contains("secret"));
    }
}
