//! Variables of the environment in texts: `${NAME}`, `${NAME:-text}`, `$${` (YF-40).

mod bound;
mod word;

pub use bound::RunEnvironment;
pub(crate) use bound::{holds_secret, redacted};
pub(crate) use word::{Piece, Word, is_secret, looks_secret, pieces, substituted, typed, word_at};
