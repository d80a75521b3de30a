<?php
/**
 * Plugin Name: Plugin Federation Connector
 * Description: Adds the plugins of a Plugin Federation Network node to Plugins > Add New, beside those of wordpress.org. Nothing is unpacked before its digest, its size and its publisher's signature are checked on this site.
 * Version: 1.0.0
 * Requires at least: 5.8
 * Requires PHP: 7.4
 * License: GPL-2.0-or-later
 * License URI: https://www.gnu.org/licenses/gpl-2.0.html
 * Text Domain: pfn-connector
 * Domain Path: /languages
 * Update URI: false
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

defined( 'ABSPATH' ) || exit;

foreach ( array( 'settings', 'release', 'nodes', 'envelope', 'evidence', 'trust', 'installer', 'updates', 'cards', 'screens', 'settings-page' ) as $part ) {
	require_once __DIR__ . '/includes/class-' . $part . '.php';
}

/**
 * Puts the parts together and hooks them in.
 */
function start() {
	load_plugin_textdomain( 'pfn-connector', false, dirname( plugin_basename( __FILE__ ) ) . '/languages' );
	$settings = new Settings();
	$nodes    = new Nodes( $settings );
	( new Installer( $settings, $nodes, new Trust( $settings ) ) )->hook();
	( new Updates( $settings, $nodes ) )->hook();
	( new Screens( $settings, $nodes ) )->hook();
	( new Settings_Page( $settings ) )->hook();
}

add_action( 'init', __NAMESPACE__ . '\start', 1 );
