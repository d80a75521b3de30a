<?php
/**
 * Runs the PHP that stdin holds, in wp-admin and as its administrator; what it returns follows a line "ANSWER" as JSON.
 */

require getenv( 'SITE_ROOT' ) . '/wp-load.php';
require ABSPATH . 'wp-admin/includes/admin.php';
require ABSPATH . 'wp-admin/includes/plugin-install.php';
require ABSPATH . 'wp-admin/includes/class-wp-upgrader.php';
wp_set_current_user( 1 );
$answer = ( function () {
	return eval( stream_get_contents( STDIN ) );
} )();
echo "\nANSWER\n", wp_json_encode( $answer );
