<?php
/**
 * Installs the site that the environment names, as wp-admin/install.php does with its form filled in.
 */

define( 'WP_INSTALLING', true );
require getenv( 'SITE_ROOT' ) . '/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';
wp_install( 'A site', 'admin', 'admin@example.org', false, '', 'password' );
