<?php
/**
 * The configuration of every site of the tests; which site it is, the environment says.
 */

define( 'DB_NAME', getenv( 'SITE_DATABASE' ) );
define( 'DB_USER', 'root' );
define( 'DB_PASSWORD', '' );
define( 'DB_HOST', 'localhost:' . getenv( 'SITE_SOCKET' ) );
define( 'DB_CHARSET', 'utf8mb4' );
define( 'DB_COLLATE', '' );
$table_prefix = 'wp_';

foreach ( array( 'AUTH', 'SECURE_AUTH', 'LOGGED_IN', 'NONCE' ) as $purpose ) {
	define( $purpose . '_KEY', $purpose . ' key of a site that only tests see' );
	define( $purpose . '_SALT', $purpose . ' salt of a site that only tests see' );
}

define( 'WP_HOME', getenv( 'SITE_URL' ) );
define( 'WP_SITEURL', getenv( 'SITE_URL' ) );
define( 'WP_CONTENT_DIR', getenv( 'SITE_CONTENT' ) );
define( 'WP_DEBUG', true );
define( 'WP_DEBUG_LOG', getenv( 'SITE_CONTENT' ) . '/debug.log' );
define( 'WP_DEBUG_DISPLAY', false );
define( 'FS_METHOD', 'direct' );
define( 'DISABLE_WP_CRON', true );

if ( 'cli' === PHP_SAPI ) {
	$_SERVER += array(
		'HTTP_HOST'      => substr( WP_HOME, 7 ),
		'REQUEST_METHOD' => 'GET',
		'REQUEST_URI'    => '/wp-admin/',
	);
	define( 'WP_ADMIN', true );
}

if ( ! defined( 'ABSPATH' ) ) {
	define( 'ABSPATH', __DIR__ . '/' );
}
require_once ABSPATH . 'wp-settings.php';
