//! Blobs under their digest.

use perennial_core::Digest;

use crate::{
    StoreError,
    transaction::{PAYLOAD_BYTES_MAX, Tx},
};

/// Repeatable: equal bytes are kept once.
pub(crate) fn put(tx: &Tx<'_>, bytes: &[u8]) -> Result<Digest, StoreError> {
    let digest = Digest::of(bytes);
    tx.admit("blob", bytes.len(), PAYLOAD_BYTES_MAX)?;
    tx.post(
        // One that is there is new again, so that it is not collected before what uses it comes.
        "INSERT INTO blobs (digest, bytes, created_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (digest) DO UPDATE SET created_at = excluded.created_at
         WHERE blobs.created_at < ?4",
        (digest.to_string(), bytes, tx.now().as_micros(), super::retention::stale_blob(tx)),
    )?;
    Ok(digest)
}

/// The bytes are compared with their digest: a flipped bit is an error.
pub(crate) fn get(tx: &Tx<'_>, digest: Digest) -> Result<Vec<u8>, StoreError> {
    let bytes = tx
        .row("SELECT bytes FROM blobs WHERE digest = ?1", [digest.to_string()], |row| {
            row.get::<Vec<u8>>()
        })?
        .ok_or_else(|| StoreError::NotFound { what: "blob", id: digest.to_string() })?;
    if Digest::of(&bytes) != digest {
        let why = "its bytes have another digest".to_owned();
        return Err(StoreError::Unreadable { what: format!("blob {digest}"), why });
    }
    Ok(bytes)
}
