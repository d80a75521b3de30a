<?php
/**
 * Plugin Name:       Maintenance Notice
 * Description:       Answers visitors with a short notice and status 503 while you work; editors see the site as usual.
 * Version:           1.0.1
 * Requires at least: 5.8
 * Requires PHP:      7.4
 * Author:            Juniper
 * License:           GPL-3.0-only
 * Text Domain:       maintenance-notice
 *
 * @package Maintenance_Notice
 */

if ( ! defined( 'ABSPATH' ) ) {
	exit;
}

require_once __DIR__ . '/includes/settings.php';

/**
 * Sends the notice instead of the page, unless the visitor may edit, or nothing was switched on.
 */
function maintenance_notice_answer() {
	$options = maintenance_notice_options();
	if ( ! $options['enabled'] || current_user_can( 'edit_posts' ) || is_robots() || is_favicon() ) {
		return;
	}

	header( 'Retry-After: ' . $options['minutes'] * MINUTE_IN_SECONDS );
	nocache_headers();
	wp_die(
		wp_kses_post( wpautop( $options['text'] ) ),
		esc_html( get_bloginfo( 'name' ) ),
		array( 'response' => 503 )
	);
}
add_action( 'template_redirect', 'maintenance_notice_answer', 0 );

/**
 * Reminds editors that visitors do not see what they see.
 *
 * @param WP_Admin_Bar $bar The toolbar.
 */
function maintenance_notice_toolbar( $bar ) {
	$options = maintenance_notice_options();
	if ( $options['enabled'] && current_user_can( 'edit_posts' ) ) {
		$bar->add_node(
			array(
				'id'    => 'maintenance-notice',
				'title' => esc_html__( 'Closed to visitors', 'maintenance-notice' ),
				'href'  => admin_url( 'options-general.php?page=maintenance-notice' ),
			)
		);
	}
}
add_action( 'admin_bar_menu', 'maintenance_notice_toolbar', 100 );
