//! What goes into a statement and what comes out of a row, for every engine.
//!
//! Four kinds are enough: no value, 64-bit integers, texts and bytes. Truth is 0 or 1; an engine with
//! a type of its own for it hands that out as such an integer.

use rusqlite::types::{ToSqlOutput, ValueRef};

/// One parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bind<'a> {
    /// None, where there might be one of this kind; an engine that types its parameters asks for it.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "this engine does not ask"))]
    Null(Kind),
    /// A number, an instant, or truth.
    Int(i64),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

/// What a parameter is, whatever its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// See [`Bind::Int`].
    Int,
    /// See [`Bind::Text`].
    Text,
    /// See [`Bind::Blob`].
    Blob,
}

/// What can be a parameter.
pub(crate) trait ToBind {
    /// Its kind, also where there is no value.
    const KIND: Kind;

    /// As a parameter.
    fn bind(&self) -> Bind<'_>;
}

macro_rules! binds {
    ($($of:ty => $kind:ident, |$it:ident| $value:expr;)+) => { $(
        impl ToBind for $of {
            const KIND: Kind = Kind::$kind;

            fn bind(&self) -> Bind<'_> {
                let $it = self;
                Bind::$kind($value)
            }
        }
    )+ };
}

binds! {
    i64 => Int, |it| *it;
    u32 => Int, |it| i64::from(*it);
    bool => Int, |it| i64::from(*it);
    str => Text, |it| it;
    String => Text, |it| it;
    [u8] => Blob, |it| it;
    Vec<u8> => Blob, |it| it;
}

impl<T: ToBind + ?Sized> ToBind for &T {
    const KIND: Kind = T::KIND;

    fn bind(&self) -> Bind<'_> {
        (**self).bind()
    }
}

impl<T: ToBind> ToBind for Option<T> {
    const KIND: Kind = T::KIND;

    fn bind(&self) -> Bind<'_> {
        self.as_ref().map_or(Bind::Null(T::KIND), ToBind::bind)
    }
}

impl rusqlite::ToSql for Bind<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null(_) => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// All parameters of a statement: none, an array of one, or a tuple.
pub(crate) trait Params {
    /// Calls `with` with them, in order.
    fn with<R>(&self, with: impl FnOnce(&[Bind<'_>]) -> R) -> R;
}

impl<P: Params> Params for &P {
    fn with<R>(&self, with: impl FnOnce(&[Bind<'_>]) -> R) -> R {
        (**self).with(with)
    }
}

/// `count` rows of as many parameters as `width`, for a statement that inserts them.
pub(crate) fn rows(count: usize, width: usize) -> String {
    let row = |row: usize| {
        let columns: Vec<String> =
            (1..=width).map(|column| format!("?{}", row * width + column)).collect();
        format!("({})", columns.join(", "))
    };
    (0..count).map(row).collect::<Vec<_>>().join(", ")
}

/// No parameter: `[]`.
impl Params for [&'static str; 0] {
    fn with<R>(&self, with: impl FnOnce(&[Bind<'_>]) -> R) -> R {
        with(&[])
    }
}

impl<T: ToBind> Params for [T; 1] {
    fn with<R>(&self, with: impl FnOnce(&[Bind<'_>]) -> R) -> R {
        with(&[self[0].bind()])
    }
}

macro_rules! tuples {
    ($(($($name:ident $place:tt),+);)+) => { $(
        impl<$($name: ToBind),+> Params for ($($name,)+) {
            fn with<R>(&self, with: impl FnOnce(&[Bind<'_>]) -> R) -> R {
                with(&[$(self.$place.bind()),+])
            }
        }
    )+ };
}

tuples! {
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13);
}

/// One column of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl Cell<'_> {
    /// Whether there is no value.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Int(_) => "a number",
            Self::Text(_) => "a text",
            Self::Blob(_) => "bytes",
        }
    }
}

/// What can be read from a column; an error says why it cannot.
pub(crate) trait FromCell: Sized {
    fn from_cell(cell: Cell<'_>) -> Result<Self, String>;
}

fn unexpected<T>(cell: Cell<'_>, expected: &'static str) -> Result<T, String> {
    Err(format!("it is {} instead of {expected}", cell.kind()))
}

impl FromCell for i64 {
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Int(number) => Ok(number),
            Cell::Null | Cell::Text(_) | Cell::Blob(_) => unexpected(cell, "a number"),
        }
    }
}

impl FromCell for u32 {
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        let number = i64::from_cell(cell)?;
        number.try_into().map_err(|_| format!("{number} is out of range"))
    }
}

impl FromCell for bool {
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        i64::from_cell(cell).map(|number| number != 0)
    }
}

impl FromCell for String {
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Text(text) => Ok(text.to_owned()),
            Cell::Null | Cell::Int(_) | Cell::Blob(_) => unexpected(cell, "a text"),
        }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Blob(bytes) => Ok(bytes.to_owned()),
            Cell::Null | Cell::Int(_) | Cell::Text(_) => unexpected(cell, "bytes"),
        }
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Null => Ok(None),
            Cell::Int(_) | Cell::Text(_) | Cell::Blob(_) => T::from_cell(cell).map(Some),
        }
    }
}
