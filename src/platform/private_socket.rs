//! A Unix socket for one user: made so that nobody else could ever connect, and every caller's user is known.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Connections that wait to be accepted.
const QUEUE: u32 = 16;

/// A listening socket that only its user and root may connect to. Dropping it removes its name.
#[derive(Debug)]
pub struct PrivateSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: whose name it is.
    file: (u64, u64),
}

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The process, if it can be seen from here.
    pub pid: Option<i32>,
}

/// Why there is no such socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("another process answers on {}: end it, or choose another socket", .0.display())]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{} is not a socket: remove it, or choose another path for the socket", .0.display())]
    NotASocket(PathBuf),
    /// The host says no.
    #[error(
        "cannot listen on the Unix socket {}: {source}; it takes a path of at most 107 bytes in a directory that this user may write to",
        path.display()
    )]
    Host {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl PrivateSocket {
    /// Listens at a path. A socket that an ended process left there is replaced; one that somebody answers on is not.
    ///
    /// The caller sees to it that no second process of ours does this at the same time.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |source| SocketError::Host {
            path: path.to_owned(),
            source,
        };
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
            Ok(_) => match UnixStream::connect(path).await {
                // What an ended process leaves behind refuses; a full queue does not.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(fail)?;
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(fail(error)),
                _ => return Err(SocketError::InUse(path.to_owned())),
            },
        }
        let socket = UnixSocket::new_stream().map_err(fail)?;
        // Linux gives a name the mode of its socket: there is no moment at which others could connect.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|error| fail(error.into()))?;
        socket.bind(path).map_err(fail)?;
        let file = identify(path).map_err(fail)?;
        let listener = socket.listen(QUEUE).map_err(fail)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection, and who made it.
    pub async fn accept(&self) -> std::io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.listener.accept().await?;
        let credentials = stream.peer_cred()?;
        let peer = Peer {
            uid: credentials.uid(),
            pid: credentials.pid(),
        };
        Ok((stream, peer))
    }
}

impl Drop for PrivateSocket {
    fn drop(&mut self) {
        // The name may be another process's by now.
        if identify(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identify(path: &Path) -> std::io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_its_users_alone_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = PrivateSocket::bind(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let (accepted, connected) = tokio::join!(socket.accept(), UnixStream::connect(&path));
        connected.unwrap();
        let peer = accepted.unwrap().1;
        assert_eq!(peer.uid, super::super::process::user());
        assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn replaces_what_is_dead_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        // The name stays behind, as after kill -9.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = PrivateSocket::bind(&path).await.unwrap();
        let told = PrivateSocket::bind(&path).await.unwrap_err().to_string();
        assert!(told.starts_with("another process answers on "), "{told}");

        // A successor's name is not removed.
        std::fs::remove_file(&path).unwrap();
        let second = PrivateSocket::bind(&path).await.unwrap();
        drop(first);
        UnixStream::connect(&path).await.unwrap();
        drop(second);

        let precious = std::fs::File::create(&path).unwrap();
        let told = PrivateSocket::bind(&path).await.unwrap_err().to_string();
        assert!(told.contains("is not a socket"), "{told}");
        assert_eq!(identify(&path).unwrap().1, precious.metadata().unwrap().ino());

        let long = folder.path().join("x".repeat(108));
        let told = PrivateSocket::bind(&long).await.unwrap_err().to_string();
        assert!(told.contains("at most 107 bytes"), "{told}");
    }
}
