//! The hint for a name that is almost right (YF-23).

pub use perennial_core::nearest;

/// The hint for the nearest name.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(name, candidates).map(|near| format!("did you mean `{near}`?"))
}
