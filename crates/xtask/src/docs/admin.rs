//! `admin.md`: the endpoints of the admin interface.

pub(super) fn page() -> Result<String, String> {
    Ok(format!(
        "# Admin endpoints\n\nWhat `/help` answers. Endpoints marked `(POST)` change something and answer 405 to any \
         other method. A name that does not exist is answered 404 with this list.\n\n```text\n{}```\n",
        nuncio_server::admin_help()
    ))
}
