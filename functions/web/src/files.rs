//! The files that `build.rs` put in.

/// A page and what it loads.
pub(crate) struct Site {
    /// Changes with the files that the page loads, and stands in their addresses.
    pub version: &'static str,
    /// `index.html`
    pub page: File,
    /// Every file that the page loads.
    pub assets: &'static [File],
}

/// A file as it is sent.
pub(crate) struct File {
    /// Its name in its folder of `web/`.
    pub name: &'static str,
    /// For the header of this name.
    pub content_type: &'static str,
    /// Hexadecimal digits that change with its content.
    pub hash: &'static str,
    /// Content of the file, uncompressed.
    pub plain: &'static [u8],
    /// Its content compressed, where that is worth it.
    pub gzip: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/files.rs"));
