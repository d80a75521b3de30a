<?php
/**
 * Has the connector judge evidence without a WordPress: stdin is a JSON list of {key, source, plugin, version, bundle},
 * the answer a list of what it found, or of the code of its refusal. Whatever PHP complains about ends it.
 */

define( 'ABSPATH', __DIR__ );

set_error_handler(
	function ( $level, $message, $file, $line ) {
		throw new ErrorException( $message, 0, $level, $file, $line );
	}
);

class WP_Error {
	public $code;

	public function __construct( $code ) {
		$this->code = $code;
	}
}

function __( $text ) {
	return $text;
}

function get_site_option( $name ) {
	return $GLOBALS['kept'][ $name ] ?? array();
}

function update_site_option( $name, $value ) {
	$GLOBALS['kept'][ $name ] = $value;
}

foreach ( array( 'settings', 'release', 'envelope', 'evidence', 'trust' ) as $part ) {
	require $argv[1] . '/includes/class-' . $part . '.php';
}

$found = array();
foreach ( json_decode( stream_get_contents( STDIN ), true ) as $case ) {
	$GLOBALS['kept'] = array();
	$settings        = new PFN_Connector\Settings();
	if ( '' !== $case['key'] ) {
		$settings->trust_key( $case['source'], hex2bin( $case['key'] ) );
	}
	$release = new PFN_Connector\Release( $case['source'], $case['plugin'], $case['version'] );
	$judged  = ( new PFN_Connector\Trust( $settings ) )->judge( $release, json_decode( $case['bundle'], true ) );
	$found[] = $judged instanceof WP_Error ? $judged->code : $judged['signed'];
}
echo json_encode( $found );
