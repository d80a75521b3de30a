"""The site that the other tests of WordPress use: what it does is what a site does, and its log is read."""

import pytest

from tests.clients.wordpress_site import PhpFailed, Site, WordPress


async def test_a_site_runs_php_as_its_administrator_and_shows_its_pages(site: Site) -> None:
    who = await site.php("return array( wp_get_current_user()->user_login, current_user_can( 'install_plugins' ) );")
    async with site.browser() as browser:
        page = await browser.get("/wp-admin/plugins.php")

    assert who == ["admin", True]
    assert page.status_code == 200 and "No plugins are currently available" in page.text


async def test_sites_have_nothing_in_common(site: Site, wordpress: WordPress) -> None:
    other = wordpress.new_site(site.content.parent)
    await site.php("update_option( 'blogname', 'Changed' );")

    assert await other.php("return get_option( 'blogname' );") == "A site"


async def test_what_a_plugin_does_wrong_is_in_the_log(site: Site, wordpress: WordPress) -> None:
    wrong = wordpress.new_site(site.content.parent)

    await wrong.php("return $never_set;")
    with pytest.raises(PhpFailed):
        await wrong.php("no_such_function();")

    assert "Undefined variable" in wrong.log_lines()[0]
    assert any("no_such_function" in line for line in wrong.log_lines()[1:])
